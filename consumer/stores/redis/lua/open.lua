-- {app, ttl, about} -> {worker, workers to forget everywhere}
local wrong = call('HGET', KEYS[1], 'broken')
if wrong then
  return redis.error_reply('HISTORY ' .. wrong)
end
met()
local number = math.max(tonumber(call('HGET', KEYS[1], 'worker') or 0) + 1, math.floor(now / 10000))
local worker = digits(number)
call('HSET', KEYS[1], 'worker', worker)
call('HSET', P .. 'n:' .. worker, 'app', A[1], 'ttl', A[2], 'about', A[3], 'beat', now, 'beats', 0, 'state', 'open')
call('SADD', P .. 'open:' .. A[1], worker)
call('SADD', P .. 'apps', A[1])
local old = call('ZRANGEBYSCORE', P .. 'ended', '-inf', digits(now - KNOWN), 'LIMIT', 0, 100)
for _, gone in ipairs(old) do
  call('ZREM', P .. 'lapsed:' .. (call('HGET', P .. 'n:' .. gone, 'app') or ''), gone)
  call('DEL', P .. 'n:' .. gone)
  call('ZREM', P .. 'ended', gone)
end
return {worker, old}
