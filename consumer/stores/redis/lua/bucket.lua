-- Begins every script. A bucket is one hash slot: KEYS[1] is '<prefix>meta', and all other keys share its prefix; KEYS[2]
-- is none of them, see buckets.py.
-- Arguments come packed, as one array. Times are whole microseconds since 1970 by this server's clock.
local call = redis.call
local P = string.sub(KEYS[1], 1, -5)
local A = cmsgpack.unpack(ARGV[1])
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- Tokens and places in the outbox: one rising sequence, never started anew, not even by a clock that was set back.
-- A script that draws ends with `finish`.
local last
local function draw()
  last = math.max((last or tonumber(call('HGET', KEYS[1], 'token') or 0)) + 1, now)
  return last
end

local function finish(reply)
  if last then
    call('HSET', KEYS[1], 'token', last)
  end
  return reply
end

-- Sixteen digits: Lua's own conversion of a number to text would round them.
local function digits(number)
  return string.format('%.0f', number)
end
