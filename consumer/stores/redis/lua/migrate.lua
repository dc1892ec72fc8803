-- {epoch, version, buckets, really} -> 1 when there was something to do
if call('HEXISTS', KEYS[1], 'epoch') == 1 then
  return 0
end
if A[4] then
  call('HSET', KEYS[1], 'epoch', A[1], 'version', A[2], 'buckets', A[3], 'made', now)
  local id = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  if id then
    call('HSET', KEYS[1], 'replid', id)
  end
end
return 1
