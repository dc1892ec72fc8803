-- {app, worker, claiming, seen, settles, claims} -> {count, 'ok' or 'lost' of each settle, answers, moving}
local app, worker = A[1], A[2]
local counted = A[4][3]
if A[3] then
  local fault = guard(worker, A[4])
  if fault then
    return fault
  end
  counted = count(worker)
end

local function claim(c)
  local row = read(c[1])
  local answer = judge(row, c)
  if answer then
    return answer
  end
  if row then
    write(row, 'l', c[8], 'u', c[9])
    keep(row, c[10])
    start(row, worker, c[4])
    return {1, row.t, row.c}
  end
  local token = draw()
  row = {id = c[1], s = RUNNING, w = worker}
  write(row, 'a', app, 'n', c[6], 'h', c[7], 'k', c[2], 'f', c[3], 'l', c[8], 'u', c[9], 's', RUNNING, 'b', '0',
    't', token, 'c', 1, 'o', now, 'w', worker, 'x', c[4])
  if c[10] then
    write(row, 'm', c[10], 'y', '1')
  end
  enter(row)
  return {1, token, 1}
end

local settled, answers = {}, {}
for i, s in ipairs(A[5]) do
  settled[i] = settle(s) and 1 or 0
end
for i, c in ipairs(A[6]) do
  answers[i] = claim(c)
end
return {counted, settled, answers, moving}
