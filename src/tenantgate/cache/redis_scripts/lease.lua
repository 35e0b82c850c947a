-- Take the lease of an entry for which the provider is going to be asked, as similar.lua does.
-- KEYS: lease, entry. ARGV: what the lease shall hold, its life in ms, how long before it goes an entry isn't fresh in ms
-- Gives the fresh entry, which somebody has stored since it was looked for. Else what the lease holds, nothing if it is given
-- now, and the ms for which it does.
if redis.call('PTTL', KEYS[2]) > tonumber(ARGV[3]) then return {redis.call('GET', KEYS[2])} end
local held = redis.call('GET', KEYS[1])
if held then return {held, math.max(0, redis.call('PTTL', KEYS[1]))} end
-- A full Redis may refuse it: then nobody waits.
redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {false, 0}
