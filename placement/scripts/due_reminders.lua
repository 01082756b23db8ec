#!lua flags=allow-oom
-- ARGV[3]: how many are wanted. Answers actor, name, due time, period, in milliseconds, for each.
local ids = redis.call('ZRANGEBYSCORE', DUE, '-inf', string.format('%.0f', now_ms()),
  'LIMIT', '0', ARGV[3])
local found = {}
for _, id in ipairs(ids) do
  local length, rest = string.match(id, '^(%d+):(.*)$')
  local actor, name = string.sub(rest, 1, tonumber(length)), string.sub(rest, tonumber(length) + 1)
  local due, every = earlier_reminder(actor, name)
  found[#found + 1] = actor
  found[#found + 1] = name
  found[#found + 1] = due
  found[#found + 1] = every
end
return answer('ok', found)
