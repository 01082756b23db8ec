#!lua flags=allow-oom
-- ARGV[3]: the asserting incarnation. ARGV[4], ARGV[5]: its registry object and this call's number
-- there, in one sequence with its claims. Then triples of bucket, actor, epoch.
-- A call that arrives behind a later one is void, and one that arrives twice only answers: what
-- it wrote the first time may have been released since. Once anybody has claimed in this generation
-- only what is there already is confirmed: a free location forgets its epoch, and a late assertion
-- would bring an older one back.
local me, claimer, number = ARGV[3], ARGV[4], ARGV[5]
if not is_member(me) then return answer('fenced') end

local last_claimer, last_number =
  string.match(redis.call('HGET', CLAIMS, me) or '', '^(%S+) (%S+) ')
local again = last_claimer == claimer and last_number == number
if last_claimer == claimer and above(last_number, number) then return answer('overtaken') end
redis.call('HSET', CLAIMS, me, claimer .. ' ' .. number .. ' 0')

local mine = {}
for i = 6, #ARGV, 3 do
  local bucket, actor, asserted = ROOT .. 'l:' .. ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local location = redis.call('HGET', bucket, actor)
  local is_mine = location == asserted .. ':' .. me
  if not is_mine and not again and claimed_in ~= generation
    and (not location or above(asserted, string.match(location, '^%d+'))) then
    redis.call('HSET', bucket, actor, asserted .. ':' .. me)
    is_mine = true
  end
  mine[#mine + 1] = is_mine and 1 or 0
end
return answer('ok', mine)
