-- {worker} -> {identity, token, handler} of each of its claims
local found = {}
for i, id in ipairs(call('SMEMBERS', P .. 'r:' .. A[1])) do
  local row = read(id)
  found[i] = {id, row.t, row.h}
end
return found
