-- {app, handler, microseconds, limit} -> how many done entries were forgotten
local key = P .. 'i:' .. DONE .. ':' .. A[1] .. '\0' .. A[2]
local old = call('ZRANGEBYSCORE', key, '-inf', '(' .. digits(now - A[3]), 'LIMIT', 0, A[4])
for _, id in ipairs(old) do
  forget(id)
  call('ZREM', key, id)
end
return #old
