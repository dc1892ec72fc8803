-- The end of an entry whose outcome is known: nothing reads the bytes of a done one.
local function complete(row, result, outgoing, landings)
  leave(row)
  row.s, row.d = DONE, nil
  write(row, 's', DONE, 'd', '', 'w', '', 'x', '')
  if result then
    write(row, 'r', result)
  end
  if row.y or row.e then
    call('HDEL', P .. 'e:' .. row.id, 'm', 'y', 'e')
    row.y = nil
  end
  enter(row)
  send(row.a, outgoing)
  for _, l in ipairs(landings) do
    land(row.a, l)
  end
end
