-- KEYS: records, contents, head. ARGV: up to which entry, it included; how many; an entry's own size. Gives how many it
-- removed, and their bytes.
local rows, size = redis.call('XRANGE', KEYS[1], '-', ARGV[1], 'COUNT', ARGV[2]), 0
for _, row in ipairs(rows) do
  size = size + #row[2][4] + redis.call('HSTRLEN', KEYS[2], row[1]) + ARGV[3]
  redis.call('HDEL', KEYS[2], row[1])
  redis.call('XDEL', KEYS[1], row[1])
end
-- Entries that came before sizes were counted would make it negative.
if redis.call('HINCRBY', KEYS[3], 'bytes', -size) < 0 then redis.call('HSET', KEYS[3], 'bytes', 0) end
return {#rows, size}
