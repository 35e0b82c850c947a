-- Say when something has to be looked at, without overwriting what somebody else says.
-- KEYS: a sorted set by Unix ms. ARGV: member, Unix ms (empty: never), Unix ms that it must have now (empty: a later one,
--   or none).
local call = redis.call
local now, at, known = tonumber(call('ZSCORE', KEYS[1], ARGV[1]) or ''), tonumber(ARGV[2]), tonumber(ARGV[3])
if known and now ~= known then return 0 end
if not known and now and now <= (at or 0) then return 0 end
if at then call('ZADD', KEYS[1], ARGV[2], ARGV[1]) else call('ZREM', KEYS[1], ARGV[1]) end
return 1
