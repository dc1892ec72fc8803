-- {app, shards, limit} -> {seq, body, creation, false, app and shard}: the oldest that may leave
local function promote(shard)
  for _, lane in ipairs(call('SMEMBERS', P .. 'oz:' .. shard)) do
    if release(lane) then
      call('SREM', P .. 'oz:' .. shard, lane)
    end
  end
  for _, seq in ipairs(call('ZRANGEBYSCORE', P .. 'od:' .. shard, '-inf', now, 'LIMIT', 0, 500)) do
    call('ZREM', P .. 'od:' .. shard, seq)
    local row = outgoing(seq)
    if row then
      free(row)
    end
  end
end

local found = {}
local function look_through(shard)
  local kept, looked = 0, 0
  repeat
    local page = call('ZRANGE', P .. 'o:' .. shard, kept, kept + A[3] - 1)
    looked = looked + #page
    for _, seq in ipairs(page) do
      local row = outgoing(seq)
      if not row then
        call('ZREM', P .. 'o:' .. shard, seq)
      elseif not held_back(row) then
        kept = kept + 1
        found[#found + 1] = seq
      end
    end
  until #page < A[3] or kept >= A[3] or looked >= MOST
end

for _, n in ipairs(A[2]) do
  local shard = A[1] .. '\0' .. n
  promote(shard)
  look_through(shard)
end
table.sort(found, function(one, other) return tonumber(one) < tonumber(other) end)
local taken = {}
for i = 1, math.min(#found, A[3]) do
  local v = call('HMGET', P .. 'or:' .. found[i], 'b', 'o', 's')
  taken[i] = {found[i], v[1], v[2], false, v[3]}
end
return taken
