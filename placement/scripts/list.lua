#!lua flags=allow-oom
-- ARGV[3]: the bucket to start at, ARGV[4]: the one to stop before, ARGV[5]: actors wanted,
-- ARGV[6]: what their names start with. Answers the bucket to go on at, then name, location pairs.
local bucket, stop, wanted, prefix = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local found = {}
while bucket < stop and #found < 2 * wanted do
  local entries = redis.call('HGETALL', ROOT .. 'l:' .. bucket)
  for i = 1, #entries, 2 do
    if string.sub(entries[i], 1, #prefix) == prefix then
      found[#found + 1] = entries[i]
      found[#found + 1] = entries[i + 1]
    end
  end
  bucket = bucket + 1
end
return answer('ok', bucket, found)
