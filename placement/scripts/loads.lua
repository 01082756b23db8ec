#!lua flags=allow-oom
return {'ok', redis.call('HGETALL', LOADS)}
