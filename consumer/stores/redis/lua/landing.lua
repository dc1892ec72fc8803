-- Landings: {identity, tenant, handler, key, fingerprint, on_lapse, budget, message, state, reason, keyed, delay,
-- conflict identity, away, conflict away}. On a cluster an entry may belong to another bucket, which no script can write
-- to from here: it comes encoded ('away') and is written to 'v', in this commit, for whoever moves it.
local NEW, DUPLICATE, CONFLICT, AWAY = 1, 2, 3, 4
local moving = {}

local function away(body)
  local seq = digits(draw())
  call('HSET', P .. 'v', seq, body)
  moving[#moving + 1] = {seq, body}
end

local function insert(app, l, id, state, reason, keyed)
  local row = {
    id = id, a = app, n = l[2], h = l[3], k = l[4], f = l[5], l = l[6], u = l[7], s = state, t = 0, c = 0, o = now,
    e = reason,
  }
  if state == RECEIVED then
    row.d = now + l[12]
  end
  if not keyed then
    row.q = 1
    call('HSET', P .. 'u', id, l[4])
  end
  keep(row, l[8])
  enter(row)
end

local function land(app, l)
  if l[14] then
    away(l[14])
    return AWAY
  end
  local row = read(l[1])
  if not row then
    insert(app, l, l[1], l[9], l[10], l[11])
    return NEW
  end
  -- The identity of what cannot be keyed is a digest over the message: its key is a name for people.
  if not l[11] or (row.k == l[4] and row.f == l[5]) then
    if (row.s == WAITING or row.s == IN_DOUBT or row.s == DEAD) and keep(row, l[8]) then
      save(row)
      queue(row)
    end
    return DUPLICATE
  end
  if l[15] then
    away(l[15])
  elseif call('EXISTS', P .. 'e:' .. l[13]) == 0 then
    local what = row.k == l[4] and 'payload' or 'key'
    insert(app, l, l[13], DEAD, 'conflict: another ' .. what .. ' has this identity', false)
  end
  return CONFLICT
end
