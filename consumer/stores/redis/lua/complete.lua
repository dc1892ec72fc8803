-- The end of an entry whose outcome is known: nothing reads the bytes of a done one, nor what a lapse would make of it.
local function complete(row, result, outgoing, landings)
  leave(row)
  if row.y then
    call('DEL', P .. 'm:' .. row.id)
  end
  row.s, row.r, row.y, row.e, row.b, row.l, row.u, row.g = DONE, result, nil, nil, nil, nil, nil, nil
  enter(row)
  send(row.a, outgoing)
  for _, l in ipairs(landings) do
    land(row.a, l)
  end
end
