-- Has this server lost what it once acknowledged? Whoever finds that out marks the bucket, so that everybody stops.
local KNOWN = 30 * 86400 * 1000000 -- how long a worker that ended is remembered
local OLDER = 'the store is older than what it acknowledged'

local function broken(why)
  call('HSET', KEYS[1], 'broken', why)
  return redis.error_reply('HISTORY ' .. why)
end

-- A worker's number tells when it was opened (in 1/100 s). One that this copy should know, and does not, is a proof.
local function should_know(worker, accepted)
  local opened = tonumber(worker) * 10000
  return opened <= now and opened > math.max(accepted, now - KNOWN)
end

-- Returns an error reply when this worker may claim nothing here, else nil.
--   seen: what its process knows of this bucket: {epoch, when a history was last accepted, how many claiming calls of
--   this worker were acknowledged}.
local function guard(worker, seen)
  local meta = call('HMGET', KEYS[1], 'epoch', 'broken', 'replid', 'accepted')
  local accepted = tonumber(meta[4] or 0)
  if meta[2] then
    return redis.error_reply('HISTORY ' .. meta[2])
  end
  if not meta[1] then
    return broken('the store is empty')
  end
  if accepted > seen[2] then
    return redis.error_reply('STALE') -- somebody has answered for it since: what the process knows is out of date
  end
  if accepted < seen[2] then
    return broken(OLDER)
  end
  if meta[1] ~= seen[1] then
    return broken('the store was made anew')
  end
  local told = call('INFO', 'replication')
  local id, before = string.match(told, 'master_replid:(%x+)'), string.match(told, 'master_replid2:(%x+)')
  if id and id ~= meta[3] then
    if before and string.find(before, '[^0]') then
      return broken('a replica was promoted, and it may have lagged behind')
    end
    call('HSET', KEYS[1], 'replid', id) -- a restart: what it lost, if anything, the counts below tell
  end
  local count = call('HGET', P .. 'w', worker)
  if count == '-' or (not count and not should_know(worker, accepted)) then
    return redis.error_reply('CLOSED')
  end
  if not count or tonumber(count) < seen[3] then
    return broken(OLDER)
  end
end

local function count(worker)
  return call('HINCRBY', P .. 'w', worker, 1)
end
