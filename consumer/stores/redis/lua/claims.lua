-- {worker} -> {identity, token, handler} of each of its claims
local found = {}
for i, id in ipairs(call('SMEMBERS', P .. 'r:' .. A[1])) do
  local v = call('HMGET', P .. 'e:' .. id, 't', 'h')
  found[i] = {id, v[1], v[2]}
end
return found
