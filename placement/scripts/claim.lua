#!lua
-- ARGV[3]: the claiming incarnation. ARGV[4], ARGV[5]: its registry object and this claim's number
-- there. Then triples of bucket, actor, offer; no actor twice. A location is 'epoch:incarnation',
-- and so is an offer: with one, the claim is a transfer of what stands at exactly that location.
-- Claims of one registry object are numbered in the order sent. One that arrives behind a later
-- one is void, and one that arrives twice only says again what it won: either would otherwise
-- write over what has happened since.
local me, claimer, number = ARGV[3], ARGV[4], ARGV[5]
if not is_member(me) then return answer('fenced') end

local last_claimer, last_number, last_epoch =
  string.match(redis.call('HGET', CLAIMS, me) or '', '^(%S+) (%S+) (%S+)$')
local repeated = last_claimer == claimer and last_number == number
if repeated then
  epoch = last_epoch
elseif last_claimer == claimer and above(last_number, number) then
  return answer('overtaken')
else
  redis.call('HINCRBY', META, 'epoch', 1)
  epoch = redis.call('HGET', META, 'epoch')
  redis.call('HSET', CLAIMS, me, claimer .. ' ' .. number .. ' ' .. epoch)
end

local mine, live = epoch .. ':' .. me, {[me] = false}
local function is_held(location)
  local holder = string.match(location, ':(.*)')
  if live[holder] == nil then live[holder] = is_member(holder) end
  return live[holder]
end

local held, won = {}, {}
local function is_granted(location, offer)
  if location == mine then return true end
  if repeated then return false end
  if offer ~= '' then return location == offer end
  return not location or not is_held(location)
end

for i = 6, #ARGV, 3 do
  local bucket, actor = ROOT .. 'l:' .. ARGV[i], ARGV[i + 1]
  local location = redis.call('HGET', bucket, actor)
  if not is_granted(location, ARGV[i + 2]) then
    held[#held + 1] = location or '0:'
  else
    if location ~= mine then redis.call('HSET', bucket, actor, mine) end
    held[#held + 1] = false
    won[#won + 1] = ROOT .. 's:' .. actor
  end
end

if #won > 0 and claimed_in ~= generation then redis.call('HSET', META, 'claimed', generation) end

local states = {}
for first = 1, #won, 1000 do
  local page = redis.call('MGET', unpack(won, first, math.min(first + 999, #won)))
  for i = 1, #page do states[first + i - 1] = page[i] end
end
return answer('ok', epoch, held, states)
