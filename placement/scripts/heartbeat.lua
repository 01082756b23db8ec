#!lua
-- ARGV[3]: an incarnation, ARGV[4]: its load.
if not is_member(ARGV[3]) then return answer('fenced') end
redis.call('HSET', LOADS, ARGV[3], ARGV[4])
return answer('ok')
