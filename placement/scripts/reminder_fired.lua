#!lua flags=allow-oom
-- ARGV[3], ARGV[4]: actor, name. ARGV[5]: when it was due. The next time is a whole number of
-- periods later and after now. Run again, it finds another due time, or none.
local actor, name, fired = ARGV[3], ARGV[4], ARGV[5]
local text = redis.call('HGET', ROOT .. 'r:' .. actor, name)
local due, every, who = string.match(text or '', '^(%d+) (%d+) (.*)$')
if due ~= fired then return answer('ok') end
if every == '0' then
  retire_reminder(actor, name, text)
else
  local periods = math.max(1, math.floor((now_ms() - due) / every) + 1)
  put_reminder(actor, name, string.format('%.0f', due + periods * every), every .. ' ' .. who)
end
return answer('ok')
