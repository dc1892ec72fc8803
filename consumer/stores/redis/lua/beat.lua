-- {worker} -> 1, or 0 when it is closed
local row = P .. 'n:' .. A[1]
if is_open(A[1]) then
  call('HSET', row, 'beat', now)
  call('HINCRBY', row, 'beats', 1)
  return 1
end
local meta = call('HMGET', KEYS[1], 'broken', 'accepted')
if call('EXISTS', row) == 0 and should_know(A[1], tonumber(meta[2] or 0)) then
  return broken(meta[1] or OLDER)
end
return 0
