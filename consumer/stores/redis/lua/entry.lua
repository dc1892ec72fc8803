-- An entry is the hash 'e:<identity>'; the sets beside it find it by its state. docs/redis.md has the table of fields.
local RECEIVED, RUNNING, WAITING, DONE, IN_DOUBT, DEAD = '1', '2', '3', '4', '5', '6'

local function given(text)
  if text and text ~= '' then
    return text
  end
end

local function read(id)
  local v = call('HMGET', P .. 'e:' .. id,
    's', 'k', 'f', 'x', 't', 'c', 'y', 'd', 'a', 'h', 'w', 'o', 'b', 'u', 'e', 'q', 'l')
  if v[1] then
    return {
      id = id, s = v[1], k = v[2], f = v[3], x = given(v[4]), t = tonumber(v[5]), c = tonumber(v[6]), y = given(v[7]),
      d = tonumber(v[8] or ''), a = v[9], h = v[10], w = given(v[11]), o = v[12], b = v[13], u = tonumber(v[14]),
      e = v[15], q = v[16], l = v[17],
    }
  end
end

local function write(row, ...)
  call('HSET', P .. 'e:' .. row.id, ...)
end

local function place(row)
  return row.a .. '\0' .. row.h
end

-- What is due and holds its bytes stands in a queue: 'd:' for handlers, 'q:' for reconcile.
local function queue(row)
  if row.d and row.y then
    if row.s == RECEIVED or row.s == WAITING then
      call('ZADD', P .. 'd:' .. place(row), row.d, row.id)
    elseif row.s == IN_DOUBT then
      call('ZADD', P .. 'q:' .. place(row), row.d, row.id)
    end
  end
end

local function leave(row)
  if row.s == RUNNING then
    call('SREM', P .. 'r:' .. row.w, row.id)
    return
  end
  call('ZREM', P .. 'i:' .. row.s .. ':' .. place(row), row.id)
  if row.d then
    call('ZREM', P .. (row.s == IN_DOUBT and 'q:' or 'd:') .. place(row), row.id)
  end
end

local function enter(row)
  if row.s == RUNNING then
    call('SADD', P .. 'r:' .. row.w, row.id)
    return
  end
  call('ZADD', P .. 'i:' .. row.s .. ':' .. place(row), row.o, row.id)
  queue(row)
end

-- The entry gets the bytes that it lacks; it never loses those that it has before it is done.
local function keep(row, message)
  if message and not row.y then
    row.y = '1'
    write(row, 'm', message, 'y', '1')
    queue(row)
  end
end

local function because(row, reason)
  if reason then
    write(row, 'e', reason)
  elseif row.e then
    call('HDEL', P .. 'e:' .. row.id, 'e')
  end
  row.e = reason
end

local function tell(row, event, reason, token)
  call('RPUSH', P .. 's:' .. row.id, cmsgpack.pack({now, event, token or row.t, row.c, reason}))
end

local function forget(row)
  call('DEL', P .. 'e:' .. row.id, P .. 's:' .. row.id)
  call('HDEL', P .. 'u', row.id)
end

-- The claim is the start.
local function start(row, worker, nonce)
  leave(row)
  row.b, row.s, row.w, row.x, row.d = row.s, RUNNING, worker, nonce, nil
  row.t, row.c = draw(), row.c + 1
  write(row, 's', RUNNING, 'b', row.b, 't', row.t, 'c', row.c, 'w', worker, 'x', nonce, 'd', '')
  enter(row)
end

-- The entry as a taker gets it.
local function handed(row)
  local v = call('HMGET', P .. 'e:' .. row.id, 'n', 'm')
  return {row.id, v[1], row.h, row.k, row.f, v[2], row.t, row.c, row.q and 0 or 1}
end
