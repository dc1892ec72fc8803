-- {identities, whole} -> {fields and values, story} of each; false where there is none
local found = {}
for i, id in ipairs(A[1]) do
  local fields = {'a', 'n', 'h', 'k', 's', 'c', 't', 'o', 'd', 'w', 'e', 'm', 'q', 'r'}
  if not A[2] then
    fields[14] = 'none'
  end
  local v = call('HMGET', P .. 'e:' .. id, unpack(fields))
  found[i] = v[1] and {v, A[2] and call('LRANGE', P .. 's:' .. id, 0, -1) or {}} or false
end
return found
