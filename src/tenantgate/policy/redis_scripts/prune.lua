-- Forget versions and records, unless somebody has published meanwhile.
-- KEYS: head, versions, contents, undo of each version that goes, and of the oldest one that stays
-- ARGV: the head that is expected, how many versions go, their numbers, hashes of records that go
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 'conflict' end
local count = tonumber(ARGV[2])
for i = 3, 2 + count do redis.call('HDEL', KEYS[2], ARGV[i]) end
for i = 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = 3 + count, #ARGV do redis.call('HDEL', KEYS[3], ARGV[i]) end
return 'pruned'
