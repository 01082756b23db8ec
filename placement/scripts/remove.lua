#!lua flags=allow-oom
-- Leave (ARGV[4] is '') or bury: ARGV[3] an incarnation, ARGV[4] its counter as it was seen.
-- The mark that keeps a late join from bringing it back may expire: such a member never renews.
local gone, seen = ARGV[3], ARGV[4]
if not is_member(gone) then return view('ok') end
if seen ~= '' and redis.call('HGET', COUNTERS, gone) ~= seen then return answer('alive') end
redis.call('HDEL', MEMBERS, gone)
redis.call('HDEL', COUNTERS, gone)
redis.call('HDEL', LOADS, gone)
redis.call('HDEL', CLAIMS, gone)
redis.call('SET', ROOT .. 'gone:' .. gone, '1', 'EX', 86400)
view_changed()
return view('ok')
