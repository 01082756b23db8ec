#!lua flags=allow-oom
return answer('ok', redis.call('GET', ROOT .. 's:' .. ARGV[3]))
