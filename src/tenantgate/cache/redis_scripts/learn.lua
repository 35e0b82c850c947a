-- Write what is known of a tenant's traffic, unless somebody else has written meanwhile.
-- KEYS: state. ARGV: version that was read (0: none), evidence, plan, summary, time to live in s
if tonumber(redis.call('HGET', KEYS[1], 'version') or 0) ~= tonumber(ARGV[1]) then return 0 end
redis.call(
  'HSET', KEYS[1], 'version', ARGV[1] + 1, 'evidence', ARGV[2], 'plan', ARGV[3], 'summary', ARGV[4]
)
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
