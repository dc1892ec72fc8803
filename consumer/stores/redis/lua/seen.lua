-- {identities, whole} -> fields, bytes, result and story of each; false where there is none
local found = {}
for i, id in ipairs(A[1]) do
  local row = read(id)
  found[i] = row and {
    {row.a, row.n, row.h, row.k, row.s, row.c, row.t, digits(row.o), row.d and digits(row.d) or false, row.w or false,
      row.e or false, row.q or 0},
    row.y and call('GET', P .. 'm:' .. id) or false,
    A[2] and row.r or false,
    A[2] and call('LRANGE', P .. 's:' .. id, 0, -1) or {},
  } or false
end
return found
