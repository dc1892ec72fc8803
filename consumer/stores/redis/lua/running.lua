-- {} -> {identity, creation} of every running entry
local found = {}
for _, worker in ipairs(call('HKEYS', P .. 'w')) do
  for _, id in ipairs(call('SMEMBERS', P .. 'r:' .. worker)) do
    found[#found + 1] = {id, digits(read(id).o)}
  end
end
return found
