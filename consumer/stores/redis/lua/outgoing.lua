-- Outgoing messages. A row is the hash 'or:<seq>'; 'oi' names all, 'op' the parked. One that may leave stands in
-- 'o:<app, shard>'; one that may not yet in 'od:<app, shard>'. Whatever is parked, delayed, or behind such a one of its
-- lane (topic and ordering key) stands in 'ol:<app, lane>': its head is what holds the lane back.
local function send(app, outgoing)
  for _, o in ipairs(outgoing) do -- {shard, lane, delay, body}
    local seq, shard, lane = digits(draw()), app .. '\0' .. o[1], o[2]
    call('HSET', P .. 'or:' .. seq, 's', shard, 'g', lane and app .. '\0' .. lane or '', 'b', o[4], 'o', now)
    call('ZADD', P .. 'oi', seq, seq)
    if o[3] > 0 then
      call('ZADD', P .. 'od:' .. shard, now + o[3], seq)
      if lane then
        call('ZADD', P .. 'ol:' .. app .. '\0' .. lane, seq, seq)
      end
    else
      call('ZADD', P .. 'o:' .. shard, seq, seq)
    end
  end
end
