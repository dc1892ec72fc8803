-- {worker, limit, patience} -> {what became of each, how many are left}. From here on this worker claims nothing here.
local worker, lapsed = A[1], {}
call('HSET', P .. 'w', worker, '-')
for _, id in ipairs(A[2] > 0 and call('SRANDMEMBER', P .. 'r:' .. worker, A[2]) or {}) do
  local row = read(id)
  leave(row)
  if row.l == 0 then
    row.s, row.d = IN_DOUBT, now + (A[3][row.h] or 0)
  elseif row.c >= row.u then
    row.s = DEAD
  else
    row.s, row.d = WAITING, now
  end
  row.e, row.g = 'its worker lapsed', nil
  enter(row)
  tell(row, 'lapse', row.e)
  lapsed[#lapsed + 1] = {id, row.h, row.k, row.s}
end
return {lapsed, call('SCARD', P .. 'r:' .. worker)}
