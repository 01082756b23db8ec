#!lua flags=allow-oom
-- ARGV[3..6]: incarnation, bucket, actor, epoch.
if not is_member(ARGV[3]) then return answer('fenced') end
local bucket = ROOT .. 'l:' .. ARGV[4]
if redis.call('HGET', bucket, ARGV[5]) ~= ARGV[6] .. ':' .. ARGV[3] then return answer('refused') end
redis.call('HDEL', bucket, ARGV[5])
redis.call('UNLINK', ROOT .. 's:' .. ARGV[5])
return answer('ok')
