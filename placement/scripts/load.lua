#!lua flags=allow-oom
return {'ok', redis.call('GET', ROOT .. 's:' .. ARGV[3])}
