#!lua
-- ARGV[3], ARGV[4]: actor, name. ARGV[5], ARGV[6]: milliseconds until it is due, and from one time
-- to the next (0: only once). ARGV[7], ARGV[8]: registry object and number of this call there.
-- A call that arrives behind a later one counts as done before it, and a second time does
-- nothing. The new due time differs from the
-- earlier one's, for by it the two are told apart when one is reported as fired.
local actor, name, caller, number = ARGV[3], ARGV[4], ARGV[7], ARGV[8]
local due, _, last_caller, last_number = earlier_reminder(actor, name)
if last_caller == caller and not above(number, last_number) then return answer('ok') end
local new = string.format('%.0f', now_ms() + ARGV[5])
if new == due then new = string.format('%.0f', new + 1) end
put_reminder(actor, name, new, ARGV[6] .. ' ' .. caller .. ' ' .. number)
return answer('ok')
