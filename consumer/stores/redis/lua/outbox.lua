-- {all or parked, after, limit} -> {seq, body, creation, why parked, app and shard}
local found = {}
local key = P .. (A[1] and 'op' or 'oi')
for i, seq in ipairs(call('ZRANGEBYSCORE', key, '(' .. A[2], '+inf', 'LIMIT', 0, A[3])) do
  local v = call('HMGET', P .. 'or:' .. seq, 'b', 'o', 'p', 's')
  found[i] = {seq, v[1], v[2], v[3], v[4]}
end
return found
