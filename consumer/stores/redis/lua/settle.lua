-- Settles: {identity, token, kind, reason, delay, result, message, outgoing, landings}. True: accepted; false: lost.
local COMPLETE, RETRY, DOUBT, BURY, RELEASE, ATTACH = 1, 2, 3, 4, 5, 6
local TOLD = {[WAITING] = 'retry', [IN_DOUBT] = 'doubt', [DEAD] = 'bury'}

local function aim(row, kind)
  if kind == COMPLETE then
    return DONE
  elseif kind == RETRY then
    return row.u and row.c >= row.u and DEAD or WAITING
  elseif kind == DOUBT then
    return IN_DOUBT
  elseif kind == BURY then
    return DEAD
  end
end

local function give_back(row)
  leave(row)
  if not row.b then
    forget(row.id)
    return
  end
  row.s, row.c, row.d = row.b, row.c - 1, now
  enter(row)
end

local function set_aside(row, s)
  local to = aim(row, s[3])
  leave(row)
  row.s, row.e, row.g = to, s[4], nil
  if to ~= DEAD and s[5] then
    row.d = now + s[5]
  elseif to == WAITING then
    row.d = now
  end
  keep(row, s[7])
  enter(row)
  tell(row, TOLD[to], s[4])
end

-- Only where a resolution ended this very token.
local function suspect(row, token)
  for _, line in ipairs(call('LRANGE', P .. 's:' .. row.id, 0, -1)) do
    local told = cmsgpack.unpack(line)
    if told[2] == 'resolve' and told[3] == token then
      tell(row, 'second_effect_suspected', nil, token)
      return
    end
  end
end

-- An entry that was set aside before may still lack its bytes.
local function bring(row, message)
  if keep(row, message) then
    save(row)
    queue(row)
  end
end

local function settle(s)
  local row, kind = read(s[1]), s[3]
  if not row then
    return false
  end
  if kind == ATTACH then
    if row.s ~= WAITING and row.s ~= IN_DOUBT and row.s ~= DEAD then
      return false
    end
    bring(row, s[7])
    return true
  end
  if row.t ~= s[2] then
    if kind == COMPLETE then
      suspect(row, s[2])
    end
    return false
  end
  if row.s == RUNNING or (row.s == IN_DOUBT and kind ~= DOUBT and kind ~= RELEASE) then
    if row.s == IN_DOUBT then
      tell(row, 'late', s[4])
    end
    if kind == COMPLETE then
      complete(row, s[6], s[8], s[9])
    elseif kind == RELEASE then
      give_back(row)
    else
      set_aside(row, s)
    end
    return true
  end
  if row.s ~= aim(row, kind) then
    return false
  end
  -- The same settle again (a lost reply), or a lapse came to this state first: then the bytes may still be missing.
  if row.s ~= DONE then
    bring(row, s[7])
  end
  return true
end
