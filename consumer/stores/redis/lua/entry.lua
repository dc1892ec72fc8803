-- An entry is a packed map at 'e:<identity>', its bytes lie at 'm:', its story at 's:'; the sets beside it find it by its
-- state. docs/redis.md has the table of fields. What a field does not say, it does not have.
local RECEIVED, RUNNING, WAITING, DONE, IN_DOUBT, DEAD = 1, 2, 3, 4, 5, 6

local function read(id)
  local packed = call('GET', P .. 'e:' .. id)
  if packed then
    local row = cmsgpack.unpack(packed)
    row.id = id
    return row
  end
end

local function save(row)
  local id = row.id
  row.id = nil
  call('SET', P .. 'e:' .. id, cmsgpack.pack(row))
  row.id = id
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

-- Every change of a state: leave, change the row, enter.
local function leave(row)
  if row.s == RUNNING then
    call('SREM', P .. 'r:' .. row.w, row.id)
    row.w, row.x = nil, nil
    return
  end
  call('ZREM', P .. 'i:' .. row.s .. ':' .. place(row), row.id)
  if row.d then
    call('ZREM', P .. (row.s == IN_DOUBT and 'q:' or 'd:') .. place(row), row.id)
    row.d = nil
  end
end

local function enter(row)
  save(row)
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
    row.y = 1
    call('SET', P .. 'm:' .. row.id, message)
    return true
  end
end

local function tell(row, event, reason, token)
  call('RPUSH', P .. 's:' .. row.id, cmsgpack.pack({now, event, token or row.t, row.c, reason}))
end

local function forget(id)
  call('DEL', P .. 'e:' .. id, P .. 's:' .. id, P .. 'm:' .. id)
  call('HDEL', P .. 'u', id)
end

-- The claim is the start.
local function start(row, worker, nonce)
  leave(row)
  row.b, row.s, row.w, row.x = row.s, RUNNING, worker, nonce
  row.t, row.c = draw(), row.c + 1
  enter(row)
end

-- The entry as a taker gets it.
local function handed(row)
  return {row.id, row.n, row.h, row.k, row.f, call('GET', P .. 'm:' .. row.id), row.t, row.c, row.q and 0 or 1}
end
