-- KEYS: contents, head. ARGV: ids, in order. Gives how many had a content, and its bytes.
local lost, size = 0, 0
for _, id in ipairs(ARGV) do
  size = size + redis.call('HSTRLEN', KEYS[1], id)
  lost = lost + redis.call('HDEL', KEYS[1], id)
end
redis.call('HINCRBY', KEYS[2], 'bytes', -size)
redis.call('HSET', KEYS[2], 'shed', ARGV[#ARGV])
return {lost, size}
