-- Remove one entry with its vector and its booking.
-- KEYS: index, sizes. ARGV: name, entry's prefix
local booked = redis.call('HGET', KEYS[2], ARGV[1])
if booked then
  local bytes, set = string.match(booked, '^(%d+)|(.*)$')
  redis.call('HINCRBY', KEYS[2], 'total', -tonumber(bytes))
  redis.call('HDEL', KEYS[2], ARGV[1])
  if set ~= '' then redis.call('VREM', set, ARGV[1]) end
end
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('UNLINK', ARGV[2] .. ARGV[1])
