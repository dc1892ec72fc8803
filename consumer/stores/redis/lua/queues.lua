-- The heads of the queues of some handlers: identities and due times of what is due, oldest first, no more than `limit`.
--   queue: 'd:' or 'q:'; tries: of a doubt that may be asked about, how often that was done is below it.
local function soonest(queue, app, handlers, limit, tries)
  local found = {}
  for _, handler in ipairs(handlers) do
    local from, got = 0, 0
    repeat
      local key = P .. queue .. app .. '\0' .. handler
      local page = call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', from, limit)
      from = from + limit
      for i = 1, #page, 2 do
        -- a doubt that was asked about often enough stays where it is
        if not tries or (read(page[i]).g or 0) < tries then
          found[#found + 1] = {page[i], page[i + 1]}
          got = got + 1
        end
      end
    until #page < limit * 2 or got >= limit
  end
  if #handlers > 1 then
    table.sort(found, function(one, other) return tonumber(one[2]) < tonumber(other[2]) end)
  end
  local first = {}
  for i = 1, math.min(limit, #found) do
    first[i] = found[i]
  end
  return first
end

local function identities(found)
  local ids = {}
  for i, pair in ipairs(found) do
    ids[i] = pair[1]
  end
  return ids
end
