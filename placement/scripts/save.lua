#!lua
-- ARGV[3..7]: incarnation, bucket, actor, epoch, save number; ARGV[8]: what to store, which is
-- 'epoch:save number:data'.
local me, bucket, actor, mine, number = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if not is_member(me) then return answer('fenced') end
if redis.call('HGET', ROOT .. 'l:' .. bucket, actor) ~= mine .. ':' .. me then return answer('refused') end
local key = ROOT .. 's:' .. actor
local stored_epoch, stored_number =
  string.match(redis.call('GETRANGE', key, 0, 63), '^(%d+):(%d+):')
if stored_epoch == mine and stored_number == number then return answer('ok') end
if stored_epoch and above(stored_epoch, mine) then return answer('refused') end
if stored_epoch == mine and above(stored_number, number) then return answer('refused') end
redis.call('SET', key, ARGV[8])
return answer('ok')
