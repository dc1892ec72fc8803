-- {app, {name, mode ...}} -> the names and modes known before
local key = P .. 'h:' .. A[1]
local known = call('HGETALL', key)
call('DEL', key)
for i = 1, #A[2], 2 do
  call('HSET', key, A[2][i], A[2][i + 1])
end
call('SADD', P .. 'apps', A[1])
return known
