-- What the scripts of specs and reminders share. A reminder is kept as 'due period object number'
-- in the hash of its actor, and by due time. One that was dropped leaves such a text as a mark, so
-- that requests sent before and arriving late change nothing; the mark may expire.
local DURABLE, DUE = ROOT .. 'durable', ROOT .. 'due'

local function specs_of(name)
  return ROOT .. 'd:' .. string.sub(name, 1, 4)
end

local function reminder_id(actor, name)
  return #actor .. ':' .. actor .. name
end

local function mark_of(actor, name)
  return ROOT .. 'dropped:' .. reminder_id(actor, name)
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function earlier_reminder(actor, name)
  local text = redis.call('HGET', ROOT .. 'r:' .. actor, name)
    or redis.call('GET', mark_of(actor, name)) or ''
  return string.match(text, '^(%d+) (%d+) (%S+) (%d+)$')
end

local function put_reminder(actor, name, due, rest)
  redis.call('HSET', ROOT .. 'r:' .. actor, name, due .. ' ' .. rest)
  redis.call('ZADD', DUE, due, reminder_id(actor, name))
end

local function retire_reminder(actor, name, text)
  redis.call('HDEL', ROOT .. 'r:' .. actor, name)
  redis.call('ZREM', DUE, reminder_id(actor, name))
  redis.call('SET', mark_of(actor, name), text, 'EX', '300')
end

