-- {app, worker, seen, handlers, limit, identities} -> {count, entries}: claims what is due, or what of `identities` still is
local fault = guard(A[2], A[3])
if fault then
  return fault
end
local taken, counted = {}, A[3][3]
for _, id in ipairs(A[6] or identities(soonest('d:', A[1], A[4], A[5]))) do
  local row = read(id)
  if row and row.y and row.d and row.d <= now and (row.s == RECEIVED or row.s == WAITING) then
    if #taken == 0 then
      counted = count(A[2])
    end
    start(row, A[2], '')
    taken[#taken + 1] = handed(row)
  end
end
return finish({counted, taken})
