-- {identity, token, reason} -> 1 or 0
local row = read(A[1])
if not row or row.s ~= DEAD or row.t ~= A[2] then
  return 0
end
tell(row, 'redrive', A[3])
leave(row)
row.s, row.c, row.t, row.d, row.e = WAITING, 0, draw(), now, A[3]
enter(row)
return finish(1)
