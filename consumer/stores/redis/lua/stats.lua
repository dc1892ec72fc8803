-- {places} -> {app, handler, state, count, oldest}; the running ones are counted one by one, they are few
local found, running = {}, {}
for _, p in ipairs(A[1]) do
  for _, state in ipairs({RECEIVED, WAITING, DONE, IN_DOUBT, DEAD}) do
    local key = P .. 'i:' .. state .. ':' .. p[1] .. '\0' .. p[2]
    local oldest = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    if oldest then
      found[#found + 1] = {p[1], p[2], state, call('ZCARD', key), oldest}
    end
  end
  running[p[1] .. '\0' .. p[2]] = {p[1], p[2], 2, 0, now}
end
for _, worker in ipairs(call('HKEYS', P .. 'w')) do
  for _, id in ipairs(call('SMEMBERS', P .. 'r:' .. worker)) do
    local row = read(id)
    local r = running[place(row)]
    if r then
      r[4], r[5] = r[4] + 1, math.min(r[5], row.o)
    end
  end
end
for _, r in pairs(running) do
  if r[4] > 0 then
    r[5] = digits(r[5])
    found[#found + 1] = r
  end
end
return found
