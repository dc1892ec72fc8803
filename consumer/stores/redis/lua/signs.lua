-- Workers, in the home bucket: 'n:<number>' is the row, 'open:<app>' names the open ones, 'closed:<app>' those closed
-- ones that may still hold claims, 'lapsed:<app>' those that ended by a lapse, 'ended' when each ended.

-- While the server was down, or another one was the primary, nobody could give a sign: silence counts from when this
-- server was first met.
local function met()
  local run = string.match(call('INFO', 'server'), 'run_id:(%x+)')
  local meta = call('HMGET', KEYS[1], 'run', 'met')
  if run and meta[1] ~= run then
    call('HSET', KEYS[1], 'run', run, 'met', now)
    return now
  end
  return tonumber(meta[2] or 0)
end

local function is_open(worker)
  return call('HGET', P .. 'n:' .. worker, 'state') == 'open'
end

-- By compare-and-set: an open one only.
local function shut(worker, how)
  if is_open(worker) then
    local app = call('HGET', P .. 'n:' .. worker, 'app')
    call('HSET', P .. 'n:' .. worker, 'state', 'closed')
    call('SREM', P .. 'open:' .. app, worker)
    call('HSET', P .. 'closed:' .. app, worker, how)
    call('ZADD', P .. 'ended', now, worker)
    if how == 'unclean' then
      call('ZADD', P .. 'lapsed:' .. app, worker, worker)
    end
  end
end
