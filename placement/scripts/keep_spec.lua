#!lua
-- ARGV[3..6]: incarnation, bucket, actor, epoch. ARGV[7]: the actor's name among the durable ones.
-- ARGV[8], ARGV[9]: registry object and number of this call there. ARGV[10]: the spec.
-- Kept is 'bucket object number spec'. A call behind a later one counts as done before it.
local actor, name, caller, number = ARGV[5], ARGV[7], ARGV[8], ARGV[9]
if not is_member(ARGV[3]) then return answer('fenced') end
if redis.call('HGET', ROOT .. 'l:' .. ARGV[4], actor) ~= ARGV[6] .. ':' .. ARGV[3] then
  return answer('refused')
end
local specs = specs_of(name)
local last_caller, last_number =
  string.match(redis.call('HGET', specs, actor) or '', '^%d+ (%S+) (%d+) ')
if last_caller == caller and above(last_number, number) then return answer('ok') end
redis.call('HSET', specs, actor, ARGV[4] .. ' ' .. caller .. ' ' .. number .. ' ' .. ARGV[10])
redis.call('ZADD', DURABLE, '0', name)
return answer('ok')
