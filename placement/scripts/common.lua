-- What every script begins with; each follows this text and sees its locals.
-- KEYS[1]: the meta hash. ARGV[1]: the generation the caller speaks for, "0" for none yet.
-- ARGV[2]: the highest epoch the caller has heard of. Its own arguments start at ARGV[3].
-- Numbers stay decimal strings throughout: Lua's own round at 2^53.
local META = KEYS[1]
local ROOT = string.sub(META, 1, -5)
local MEMBERS, COUNTERS, LOADS = ROOT .. 'members', ROOT .. 'counters', ROOT .. 'loads'
local CLAIMS, CHANGES = ROOT .. 'claims', ROOT .. 'view'

local function above(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local function highest(...)
  local top = '0'
  for _, number in ipairs({...}) do
    if above(number, top) then top = number end
  end
  return top
end

local function is_member(incarnation)
  return redis.call('HEXISTS', MEMBERS, incarnation) == 1
end

local generation, version, epoch, claimed_in

local function answer(status, ...)
  return {status, generation, ...}
end

local function view(status)
  return answer(status, version, redis.call('HVALS', MEMBERS))
end

local function view_changed()
  redis.call('HINCRBY', META, 'version', 1)
  version = redis.call('HGET', META, 'version')
  redis.call('PUBLISH', CHANGES, generation .. ':' .. version)
end

-- Rule 9: another run or replication id than the one beside the data means that this server may
-- have lost writes. Nobody is a member of the new generation until it says so itself. While TIME lags
-- behind the data, how far its number lies above is left to chance, by the run id: with the very next
-- one, two rollbacks to the same data would begin one generation twice. Epochs go on above the last
-- generation too, of which every host has heard: it tells how late TIME was when that one began, even
-- if the only host that heard of its epochs is gone and TIME has stepped back since.
local function begin_generation(info, caller_generation, caller_epoch)
  local time = redis.call('TIME')
  local now_us = time[1] .. string.format('%06d', tonumber(time[2]))
  local run = string.match(info, '[\r\n]run_id:(%x+)')
  local known = highest(generation or '0', caller_generation)
  local step = above(now_us, known) and 1 or 1 + tonumber(string.sub(run, 1, 4), 16)
  redis.call('DEL', MEMBERS, COUNTERS, LOADS, CLAIMS)
  redis.call('HSET', META,
    'run', run,
    'replication', string.match(info, 'master_replid:(%x+)'),
    'generation', highest(known, now_us),
    'epoch', highest(epoch or '0', caller_epoch, known, now_us))
  redis.call('HINCRBY', META, 'generation', step)
  generation = redis.call('HGET', META, 'generation')
  epoch = redis.call('HGET', META, 'epoch')
  view_changed()
end

do
  local info = redis.call('INFO', 'server', 'replication')
  local meta = redis.call('HMGET', META, 'run', 'replication', 'generation', 'version', 'epoch', 'claimed')
  generation, version, epoch, claimed_in = meta[3], meta[4], meta[5], meta[6]
  local same_server = generation
    and string.find(info, 'run_id:' .. meta[1], 1, true)
    and string.find(info, 'master_replid:' .. meta[2], 1, true)
  if not same_server or above(ARGV[1], generation) then
    begin_generation(info, ARGV[1], ARGV[2])
  elseif above(ARGV[2], epoch) then
    epoch = ARGV[2]
    redis.call('HSET', META, 'epoch', epoch)
  end
end

if ARGV[1] ~= '0' and ARGV[1] ~= generation then return view('stale') end

