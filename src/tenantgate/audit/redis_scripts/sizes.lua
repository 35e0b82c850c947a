-- KEYS: records, contents. ARGV: after which entry, how many. Gives id, bytes of the record, of the content …
local out = {}
for _, row in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
  out[#out + 1], out[#out + 2] = row[1], #row[2][4]
  out[#out + 1] = redis.call('HSTRLEN', KEYS[2], row[1])
end
return out
