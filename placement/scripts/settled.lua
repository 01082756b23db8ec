#!lua flags=allow-oom
return answer('ok', redis.call('HGET', META, 'settled') == generation and 1 or 0)
