-- {} -> {how many are named, how many of them are parked, when the first was made that is not}
local first = false
for _, seq in ipairs(call('ZRANGE', P .. 'oi', 0, 999)) do
  if not call('ZSCORE', P .. 'op', seq) then
    first = call('HGET', P .. 'or:' .. seq, 'o')
    break
  end
end
return {call('ZCARD', P .. 'oi'), call('ZCARD', P .. 'op'), first}
