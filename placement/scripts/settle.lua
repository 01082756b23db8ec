#!lua flags=allow-oom
redis.call('HSET', META, 'settled', generation)
return answer('ok')
