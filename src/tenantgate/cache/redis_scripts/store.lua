-- Store one answer, book it, and make room.
-- KEYS: entry, index, sizes, [lease, where they wait for it], [bucket]
-- ARGV: value, ttl in s, name, entry's prefix, most entries, most bytes, [what the lease holds, life of the waiting place]
-- With a lease it is let go of, as let_go.lua does, if the answer is stored.
-- All keys of a tenant have one hash tag, so the keys made here lie on the same node.
local entry, index, sizes, leased = KEYS[1], KEYS[2], KEYS[3], ARGV[7]
local bucket = KEYS[leased and 6 or 4]
local value, ttl, name, prefix = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local most_entries, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local clock = redis.call('TIME') -- the gateways' clocks may differ
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function split(booked)
  local bytes, set = string.match(booked or '0|', '^(%d+)|(.*)$')
  return tonumber(bytes), set
end

local function forget(old)
  local bytes, set = split(redis.call('HGET', sizes, old))
  redis.call('HINCRBY', sizes, 'total', -bytes)
  redis.call('HDEL', sizes, old)
  if set ~= '' then redis.call('ZREM', set, old) end
  redis.call('ZREM', index, old)
  redis.call('UNLINK', prefix .. old)
end

-- Reading comes first: another type under a book fails here, before anything is written.
local booked = redis.call('HLEN', sizes) - redis.call('HEXISTS', sizes, 'total')
local lost = redis.call('ZCARD', index) ~= booked
local old_bytes, old_set = split(redis.call('HGET', sizes, name))
local bytes = #value + 256
if bytes > most_bytes then return 'too large' end

-- The first write must be one that a full Redis refuses: after any other it would let all the rest pass.
if bucket then redis.call('ZADD', bucket, now + ttl * 1000, name) end
redis.call('SET', entry, value, 'EX', ttl)
if lost then
  -- Redis let one of the two books go (`allkeys-lru` may). They begin anew; what they named expires by itself.
  redis.call('UNLINK', index, sizes)
  old_bytes = 0
end
if old_set ~= '' and old_set ~= bucket then redis.call('ZREM', old_set, name) end
redis.call('HSET', sizes, name, string.format('%d|%s', bytes, bucket or ''))
redis.call('HINCRBY', sizes, 'total', bytes - old_bytes)
redis.call('ZADD', index, now + ttl * 1000, name)
for _, key in ipairs({index, sizes, bucket}) do
  if redis.call('TTL', key) < ttl then redis.call('EXPIRE', key, ttl) end
end

-- What has expired went by itself, but for its name in a bucket and its booking.
for _, old in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 64)) do forget(old) end
for _ = 1, 256 do
  local full = redis.call('ZCARD', index) > most_entries
    or tonumber(redis.call('HGET', sizes, 'total')) > most_bytes
  if not full then break end
  local first = redis.call('ZRANGE', index, 0, 1)
  local oldest = first[1] == name and first[2] or first[1]
  if not oldest then break end
  forget(oldest)
end
if leased and redis.pcall('GET', KEYS[4]) == leased then
  redis.call('UNLINK', KEYS[4])
  redis.call('XADD', KEYS[5], '*', 'let', 'go')
  redis.call('PEXPIRE', KEYS[5], ARGV[8])
end
return 'stored'
