-- {seqs}: forgets them
for _, seq in ipairs(A[1]) do
  local row = outgoing(seq)
  if row then
    call('ZREM', P .. 'o:' .. row.shard, seq)
    call('ZREM', P .. 'od:' .. row.shard, seq)
    call('ZREM', P .. 'oi', seq)
    call('ZREM', P .. 'op', seq)
    call('DEL', P .. 'or:' .. seq)
    if row.lane and call('ZREM', P .. 'ol:' .. row.lane, seq) == 1 then
      release(row.lane)
    end
  end
end
return 1
