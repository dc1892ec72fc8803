-- {identity, token, to, reason, result, outgoing, landings} -> {1 or 0, moving}
local row, to = read(A[1]), A[3]
if not row or row.s ~= IN_DOUBT or row.t ~= A[2] then
  return {0, moving}
end
-- The line belongs to the attempt that is resolved: by its token a settlement that comes too late is known.
tell(row, 'resolve', A[4])
row.t = draw()
if to == DONE then
  complete(row, A[5], A[6], A[7])
else
  leave(row)
  row.s, row.e, row.d = to, A[4], to == WAITING and now or nil
  enter(row)
end
return finish({1, moving})
