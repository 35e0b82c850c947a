-- Forget versions and records, unless somebody has published meanwhile.
-- KEYS: head, versions, contents, undo of each version that goes
-- ARGV: the head that is expected, how many versions go, their numbers, hashes of records that go
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 'conflict' end
local count = tonumber(ARGV[2])
for i = 1, count do
  redis.call('HDEL', KEYS[2], ARGV[2 + i])
  redis.call('UNLINK', KEYS[3 + i])
end
for i = 3 + count, #ARGV do redis.call('HDEL', KEYS[3], ARGV[i]) end
return 'pruned'
