-- {queue, app, handlers, limit, tries} -> {what `due` or `ask` would take, some of 'v', now}
return {soonest(A[1], A[2], A[3], A[4], A[5]), call('HSCAN', P .. 'v', 0, 'COUNT', 100)[2], digits(now)}
