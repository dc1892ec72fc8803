-- {identity, token, to, reason, result, outgoing, landings} -> {1 or 0, moving}
local row, to = read(A[1]), tostring(A[3])
if not row or row.s ~= IN_DOUBT or row.t ~= A[2] then
  return {0, moving}
end
-- The line belongs to the attempt that is resolved: by its token a settlement that comes too late is known.
tell(row, 'resolve', A[4])
row.t = draw()
write(row, 't', row.t)
if to == DONE then
  complete(row, A[5], A[6], A[7])
else
  leave(row)
  row.s, row.d = to, to == WAITING and now or nil
  write(row, 's', to, 'd', row.d or '', 'w', '', 'x', '')
  because(row, A[4])
  enter(row)
end
return {1, moving}
