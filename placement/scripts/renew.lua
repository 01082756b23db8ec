#!lua flags=allow-oom
-- ARGV[3]: the renewing incarnation, ARGV[4]: its counter.
if not is_member(ARGV[3]) then return answer('fenced') end
if above(ARGV[4], redis.call('HGET', COUNTERS, ARGV[3])) then
  redis.call('HSET', COUNTERS, ARGV[3], ARGV[4])
end
return answer('ok', version, redis.call('HGETALL', COUNTERS))
