#!lua flags=allow-oom
-- ARGV[3..6]: incarnation, bucket, actor, epoch. ARGV[7]: the actor's name among the durable ones.
local bucket, actor, name = ROOT .. 'l:' .. ARGV[4], ARGV[5], ARGV[7]
if not is_member(ARGV[3]) then return answer('fenced') end
if redis.call('HGET', bucket, actor) ~= ARGV[6] .. ':' .. ARGV[3] then return answer('refused') end
redis.call('HDEL', bucket, actor)
redis.call('HDEL', specs_of(name), actor)
redis.call('ZREM', DURABLE, name)
for _, reminder in ipairs(redis.call('HKEYS', ROOT .. 'r:' .. actor)) do
  redis.call('ZREM', DUE, reminder_id(actor, reminder))
end
redis.call('DEL', ROOT .. 'r:' .. actor)
return answer('ok')
