-- {worker}: its process says that it runs nothing any more
shut(A[1], 'clean')
return 1
