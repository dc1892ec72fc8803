-- {app, worker, how many there are} -> those of them that this worker owns; free ones become its own
if not is_open(A[2]) then
  return {}
end
local mine, key = {}, P .. 'owners:' .. A[1]
for shard = 0, A[3] - 1 do
  local owner = call('HGET', key, shard)
  if owner ~= A[2] and (not owner or not is_open(owner)) then
    call('HSET', key, shard, A[2])
    owner = A[2]
  end
  if owner == A[2] then
    mine[#mine + 1] = shard
  end
end
return mine
