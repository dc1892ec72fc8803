-- {claims} -> answers, false where it would be won
local answers = {}
for i, c in ipairs(A[1]) do
  local answer = judge(read(c[1]), c)
  answers[i] = answer and answer[1] ~= 1 and answer or false
end
return answers
