#!lua flags=allow-oom
-- ARGV[3], ARGV[4]: actor, name. ARGV[5], ARGV[6]: registry object and number of this call there.
-- A call that arrives behind a later one counts as done before it.
local actor, name, caller, number = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local due, _, last_caller, last_number = earlier_reminder(actor, name)
if last_caller == caller and above(last_number, number) then return answer('ok', 0) end
local was_there = redis.call('HEXISTS', ROOT .. 'r:' .. actor, name)
retire_reminder(actor, name, (due or '0') .. ' 0 ' .. caller .. ' ' .. number)
return answer('ok', was_there)
