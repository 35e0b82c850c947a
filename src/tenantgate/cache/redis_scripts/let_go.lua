-- Let go of a lease, and wake who waits for it.
-- KEYS: lease, where they wait. ARGV: what the lease holds, life of the latter in ms
-- Gives whether there was this lease. Nobody waits for one that has ended.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
-- The first write must be one that a full Redis allows: then it allows the rest.
redis.call('UNLINK', KEYS[1])
redis.call('XADD', KEYS[2], '*', 'let', 'go')
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
