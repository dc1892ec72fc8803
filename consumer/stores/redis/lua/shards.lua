-- {app, worker, how many there are} -> those of them that this worker owns. They are shared out among the open workers
-- that ask: whoever has more than its share gives up the rest, and free ones become its own up to that share.
if not is_open(A[2]) then
  return {}
end
local relays, asking = P .. 'relays:' .. A[1], 0
call('SADD', relays, A[2])
for _, worker in ipairs(call('SMEMBERS', relays)) do
  if is_open(worker) then
    asking = asking + 1
  else
    call('SREM', relays, worker)
  end
end
local mine, free, key = {}, {}, P .. 'owners:' .. A[1]
local share = math.ceil(A[3] / asking)
for shard = 0, A[3] - 1 do
  local owner = call('HGET', key, shard)
  if owner == A[2] and #mine < share then
    mine[#mine + 1] = shard
  elseif owner == A[2] then
    call('HDEL', key, shard)
  elseif not owner or not is_open(owner) then
    free[#free + 1] = shard
  end
end
for _, shard in ipairs(free) do
  if #mine < share then
    call('HSET', key, shard, A[2])
    mine[#mine + 1] = shard
  end
end
return mine
