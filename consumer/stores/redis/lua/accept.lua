-- {epoch, version, buckets, reason} -> what was wrong, or false. Somebody answers for what this copy does not know.
local wrong = call('HGET', KEYS[1], 'broken')
if call('HEXISTS', KEYS[1], 'epoch') == 0 then
  wrong = wrong or 'the store is empty'
  call('HSET', KEYS[1], 'epoch', A[1], 'version', A[2], 'buckets', A[3], 'made', now)
end
local id = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
if id then
  call('HSET', KEYS[1], 'replid', id)
end
-- Tokens go on above every one that this server can have given out before; workers that it does not know are closed.
call('HSET', KEYS[1], 'accepted', now, 'token', math.max(tonumber(call('HGET', KEYS[1], 'token') or 0), now))
call('HDEL', KEYS[1], 'broken')
call('RPUSH', P .. 'history', cmsgpack.pack({now, wrong or '', A[4]}))
return wrong
