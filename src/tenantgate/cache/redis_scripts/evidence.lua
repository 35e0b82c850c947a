-- What is known of a tenant's traffic, and the stored answer that a fresh one is to be compared with.
-- KEYS: state, [entry]
-- Gives the state's version and text, both nothing if there is none, and the entry or nothing.
local known = redis.call('HMGET', KEYS[1], 'version', 'evidence')
return {known[1], known[2], KEYS[2] and redis.call('GET', KEYS[2])}
