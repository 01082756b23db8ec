#!lua flags=allow-oom
-- Join, or change records. ARGV[3]: the version that the change was made for, '' for any.
-- ARGV[4]: the joining incarnation, '' for none. Then pairs of incarnation, record.
-- A change made for an older version is refused, so one that arrives late does no harm.
local joining = ARGV[4]
if joining ~= '' then
  if is_member(joining) then return view('ok') end
  if redis.call('EXISTS', ROOT .. 'gone:' .. joining) == 1 then return answer('fenced') end
end
if ARGV[3] ~= '' and ARGV[3] ~= version then return view('conflict') end
for i = 5, #ARGV, 2 do
  redis.call('HSET', MEMBERS, ARGV[i], ARGV[i + 1])
end
if joining ~= '' then redis.call('HSET', COUNTERS, joining, '0') end
view_changed()
return view('ok')
