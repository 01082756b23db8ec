#!lua flags=allow-oom
-- ARGV[3]: how many specs are wanted. Then pairs of texts, one below and one above the names of a
-- range of hashes. Answers actor, spec, location for each, by hash within each range.
local wanted, found = tonumber(ARGV[3]), {}
for i = 4, #ARGV, 2 do
  local left = wanted - #found / 3
  if left <= 0 then break end
  local names =
    redis.call('ZRANGEBYLEX', DURABLE, '(' .. ARGV[i], '(' .. ARGV[i + 1], 'LIMIT', '0', left)
  for _, name in ipairs(names) do
    local actor = string.sub(name, 18)
    local bucket, spec =
      string.match(redis.call('HGET', specs_of(name), actor), '^(%d+) %S+ %d+ (.*)$')
    found[#found + 1] = actor
    found[#found + 1] = spec
    found[#found + 1] = redis.call('HGET', ROOT .. 'l:' .. bucket, actor)
  end
end
return answer('ok', found)
