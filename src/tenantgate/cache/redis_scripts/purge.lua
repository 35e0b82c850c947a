-- Remove one entry with its name in a bucket and its booking.
-- KEYS: index, sizes. ARGV: name, entry's prefix
local booked = redis.call('HGET', KEYS[2], ARGV[1])
-- The first write must be one that a full Redis allows: then it allows the rest, which makes room.
local gone = redis.call('UNLINK', ARGV[2] .. ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
if booked then
  local bytes, set = string.match(booked, '^(%d+)|(.*)$')
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HINCRBY', KEYS[2], 'total', -tonumber(bytes))
  if set ~= '' then redis.call('ZREM', set, ARGV[1]) end
end
return gone
