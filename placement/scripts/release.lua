#!lua flags=allow-oom
-- ARGV[3]: the releasing incarnation. Then triples of bucket, actor, epoch.
if not is_member(ARGV[3]) then return answer('fenced') end
for i = 4, #ARGV, 3 do
  local bucket = ROOT .. 'l:' .. ARGV[i]
  if redis.call('HGET', bucket, ARGV[i + 1]) == ARGV[i + 2] .. ':' .. ARGV[3] then
    redis.call('HDEL', bucket, ARGV[i + 1])
  end
end
return answer('ok')
