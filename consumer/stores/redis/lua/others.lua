-- {app, worker} -> the open workers but this one, each followed by the number of its beats
local found = {}
for _, worker in ipairs(call('SMEMBERS', P .. 'open:' .. A[1])) do
  if worker ~= A[2] then
    found[#found + 1] = worker
    found[#found + 1] = call('HGET', P .. 'n:' .. worker, 'beats')
  end
end
return found
