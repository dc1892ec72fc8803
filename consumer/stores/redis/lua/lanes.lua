-- What holds a lane back, and what leaves when it no longer does. See outgoing.lua.
local function outgoing(seq)
  local v = call('HMGET', P .. 'or:' .. seq, 's', 'g', 'p')
  if v[1] then
    return {seq = seq, shard = v[1], lane = v[2] ~= '' and v[2] or nil, parked = v[3]}
  end
end

local MOST = 10000 -- rows that one script moves: the server does nothing else meanwhile

-- Lets the head of a lane leave, and those behind it, up to the next one that is parked or delayed. A lane that is too long
-- for one script is named in 'oz:<app, shard>', and the next `take` goes on; until then its rest holds back what is newer.
local function release(lane)
  for moved = 0, MOST do
    local seq = call('ZRANGE', P .. 'ol:' .. lane, 0, 0)[1]
    local row = seq and outgoing(seq)
    if not row or row.parked or call('ZSCORE', P .. 'od:' .. row.shard, seq) then
      return true
    elseif moved == MOST then
      call('SADD', P .. 'oz:' .. row.shard, lane)
      return false
    end
    call('ZREM', P .. 'ol:' .. lane, seq)
    call('ZADD', P .. 'o:' .. row.shard, seq, seq)
  end
end

-- It is parked or delayed no longer.
local function free(row)
  if row.lane then
    release(row.lane)
  else
    call('ZADD', P .. 'o:' .. row.shard, row.seq, row.seq)
  end
end

-- Sets a row aside behind the head of its lane; false: nothing holds it back.
local function held_back(row)
  local head = row.lane and call('ZRANGE', P .. 'ol:' .. row.lane, 0, 0)[1]
  if not head or tonumber(head) > tonumber(row.seq) then
    return false
  end
  call('ZREM', P .. 'o:' .. row.shard, row.seq)
  call('ZADD', P .. 'ol:' .. row.lane, row.seq, row.seq)
  return true
end
