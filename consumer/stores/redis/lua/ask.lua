-- {app, handlers, limit, lease, tries, identities} -> entries: leases the doubts that are to be asked about
local asked = {}
for _, id in ipairs(A[6] or identities(soonest('q:', A[1], A[2], A[3], A[5]))) do
  local row = read(id)
  if row and row.s == IN_DOUBT and row.y and row.d and row.d <= now and (row.g or 0) < A[5] then
    row.d, row.g = now + A[4], (row.g or 0) + 1
    save(row)
    queue(row)
    asked[#asked + 1] = handed(row)
  end
end
return asked
