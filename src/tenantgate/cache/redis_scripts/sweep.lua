-- Remove some of what has expired: names in buckets and bookings, which don't go by themselves.
-- KEYS: index, sizes, mark. ARGV: entry's prefix, how many, interval in ms
-- Gives how many it removed, and how many entries are left; none while the mark says that somebody has just swept here.
if redis.call('EXISTS', KEYS[3]) == 1 then return {0, redis.call('ZCARD', KEYS[1])} end
local clock = redis.call('TIME') -- the gateways' clocks may differ
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, name in ipairs(old) do
  local booked = redis.call('HGET', KEYS[2], name)
  -- The first write must be one that a full Redis allows: then it allows the rest, which makes room.
  redis.call('UNLINK', ARGV[1] .. name)
  redis.call('ZREM', KEYS[1], name)
  if booked then
    local bytes, set = string.match(booked, '^(%d+)|(.*)$')
    redis.call('HDEL', KEYS[2], name)
    redis.call('HINCRBY', KEYS[2], 'total', -tonumber(bytes))
    if set ~= '' then redis.call('ZREM', set, name) end
  end
end
-- Whoever comes next goes on where more is left. A full Redis may refuse the mark: then this is done again.
if #old < tonumber(ARGV[2]) then redis.pcall('SET', KEYS[3], '1', 'PX', ARGV[3]) end
return {#old, redis.call('ZCARD', KEYS[1])}
