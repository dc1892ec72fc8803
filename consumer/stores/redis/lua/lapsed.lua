-- {app, since} -> the workers that ended by a lapse, of this number and above
return call('ZRANGEBYSCORE', P .. 'lapsed:' .. A[1], A[2], '+inf')
