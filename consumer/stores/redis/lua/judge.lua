-- What a claim is answered, without changing anything: {1, token, attempt} won already (the same nonce), {2, ...} held,
-- {3, what} in conflict; nil: it may be won.
--   c: {identity, key, fingerprint, nonce, stored, tenant, handler, on_lapse, budget, message}
local function judge(row, c)
  if not row then
    return nil
  end
  if row.k ~= c[2] then
    return {3, 'key'}
  end
  if row.f ~= c[3] then
    return {3, 'payload'}
  end
  if row.s == RUNNING and row.x == c[4] then
    return {1, row.t, row.c}
  end
  if (row.s == RECEIVED or row.s == WAITING) and (not row.y or (c[5] and row.d and row.d <= now)) then
    return nil
  end
  return {2, row.s, row.y or 0, row.t, row.c, digits(row.o), row.r or false, row.e or false}
end
