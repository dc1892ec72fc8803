-- {seqs} -> how many were parked
local freed = 0
for _, seq in ipairs(A[1]) do
  local row = outgoing(seq)
  if row and row.parked then
    freed = freed + 1
    call('HDEL', P .. 'or:' .. seq, 'p')
    call('ZREM', P .. 'op', seq)
    free(row)
  end
end
return freed
