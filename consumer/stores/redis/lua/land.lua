-- {app, landings} -> {what became of each, moving}
local landed = {}
for i, l in ipairs(A[2]) do
  landed[i] = land(A[1], l)
end
return finish({landed, moving})
