-- {{seq, reason} ...}: sets them aside; their lanes wait behind them
for _, pair in ipairs(A[1]) do
  local row = outgoing(pair[1])
  if row then
    call('HSET', P .. 'or:' .. row.seq, 'p', pair[2])
    call('ZADD', P .. 'op', row.seq, row.seq)
    call('ZREM', P .. 'o:' .. row.shard, row.seq)
    call('ZREM', P .. 'od:' .. row.shard, row.seq)
    if row.lane then
      call('ZADD', P .. 'ol:' .. row.lane, row.seq, row.seq)
    end
  end
end
return 1
