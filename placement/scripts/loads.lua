#!lua flags=allow-oom
return answer('ok', redis.call('HGETALL', LOADS))
