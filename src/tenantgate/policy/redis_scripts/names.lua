-- A page of a hash's fields without their values, as HSCAN … NOVALUES gives it from Redis 7.4 on.
-- KEYS: hash. ARGV: cursor, about how many. Gives the next cursor, '0' at the end, and the fields
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local names = {}
for i = 1, #page[2], 2 do names[#names + 1] = page[2][i] end
return {page[1], names}
