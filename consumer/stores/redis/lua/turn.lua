-- {app, worker, claiming, seen, settles, claims} -> {count, 1 (ok) or 0 (lost) for each settle, answers, moving}
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
    row.l, row.u = c[8], c[9]
    keep(row, c[10])
    start(row, worker, c[4])
    return {1, row.t, row.c}
  end
  row = {
    id = c[1], a = app, n = c[6], h = c[7], k = c[2], f = c[3], l = c[8], u = c[9], s = RUNNING, t = draw(), c = 1,
    o = now, w = worker, x = c[4],
  }
  keep(row, c[10])
  enter(row)
  return {1, row.t, 1}
end

local settled, answers = {}, {}
for i, s in ipairs(A[5]) do
  settled[i] = settle(s) and 1 or 0
end
for i, c in ipairs(A[6]) do
  answers[i] = claim(c)
end
return finish({counted, settled, answers, moving})
