-- Write what is told of a counter, and its events into the tenant's outbox, if nobody was quicker.
-- KEYS: the counter's state, the tenant's outbox.
-- ARGV: version of the state that was read, Unix ms at which the state expires, ms for which the outbox is kept; then
--   number of fields, each with its value; number of fields that go; events, each id with its value.
-- Gives 1, or 0 where the state is another one by now.
local call = redis.call
if (call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
local at = 4
for _ = 1, tonumber(ARGV[at]) do
  call('HSET', KEYS[1], ARGV[at + 1], ARGV[at + 2])
  at = at + 2
end
at = at + 1
for _ = 1, tonumber(ARGV[at]) do
  call('HDEL', KEYS[1], ARGV[at + 1])
  at = at + 1
end
call('HINCRBY', KEYS[1], 'version', 1)
call('PEXPIREAT', KEYS[1], ARGV[2])
for i = at + 1, #ARGV, 2 do
  call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  call('PEXPIRE', KEYS[2], ARGV[3])
end
return 1
