-- Store one answer, book it, and make room.
-- KEYS: entry, index, sizes, [vector set]
-- ARGV: value, ttl in s, name, entry's prefix, most entries, most bytes, [vector as float32]
-- All keys of a tenant have one hash tag, so the keys made here lie on the same node.
local entry, index, sizes, vectors = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local value, ttl, name, prefix = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local most_entries, most_bytes, vector = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local clock = redis.call('TIME') -- the gateways' clocks may differ
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function forget(old)
  local booked = redis.call('HGET', sizes, old)
  if booked then
    local bytes, set = string.match(booked, '^(%d+)|(.*)$')
    redis.call('HINCRBY', sizes, 'total', -tonumber(bytes))
    redis.call('HDEL', sizes, old)
    if set ~= '' then redis.call('VREM', set, old) end
  end
  redis.call('ZREM', index, old)
  redis.call('UNLINK', prefix .. old)
end

-- What has expired went by itself, but for its vector and its booking.
for _, old in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 64)) do forget(old) end

local bytes = #value + (vector and #vector or 0) + 256
if bytes > most_bytes then return 'too large' end
forget(name)
local total = tonumber(redis.call('HGET', sizes, 'total') or '0')
local count = redis.call('ZCARD', index)
for _ = 1, 256 do
  if count < most_entries and total + bytes <= most_bytes then break end
  local oldest = redis.call('ZRANGE', index, 0, 0)[1]
  if not oldest then break end
  forget(oldest)
  total = tonumber(redis.call('HGET', sizes, 'total') or '0')
  count = count - 1
end

-- The vector first: where another type lies under its key, this fails before anything is written.
if vectors then
  redis.call('VADD', vectors, 'FP32', vector, name, 'Q8')
  if redis.call('TTL', vectors) < ttl then redis.call('EXPIRE', vectors, ttl) end
end
redis.call('SET', entry, value, 'EX', ttl)
redis.call('ZADD', index, now + ttl * 1000, name)
redis.call('HSET', sizes, name, string.format('%d|%s', bytes, vectors or ''))
redis.call('HINCRBY', sizes, 'total', bytes)
for _, key in ipairs({index, sizes}) do
  if redis.call('TTL', key) < ttl then redis.call('EXPIRE', key, ttl) end
end
return 'stored'
