#!lua flags=allow-oom
-- Pairs of bucket, actor from ARGV[3].
local locations = {}
for i = 3, #ARGV, 2 do
  locations[#locations + 1] = redis.call('HGET', ROOT .. 'l:' .. ARGV[i], ARGV[i + 1])
end
return answer('ok', locations)
