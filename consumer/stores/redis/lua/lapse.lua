-- {app} -> closed workers that may hold claims, each followed by how it was closed
local since = met()
for _, worker in ipairs(call('SMEMBERS', P .. 'open:' .. A[1])) do
  local v = call('HMGET', P .. 'n:' .. worker, 'beat', 'ttl')
  if now > math.max(tonumber(v[1]), since) + tonumber(v[2]) then
    shut(worker, 'unclean')
  end
end
return call('HGETALL', P .. 'closed:' .. A[1])
