-- The entries of a bucket, in one round trip, with the plan that says which of them will do.
-- KEYS: bucket; state of the bound; the very entry that is asked for, if it isn't known to be none; its lease, if that is
-- wished. ARGV: how many, entry's prefix, then as for lease.lua
-- Gives that entry or nothing, the plan or nothing, what the lease holds or nothing, the ms for which it does or -1 if there
-- was no wish, then name, value, name, value … ; names whose entry is gone are removed on meeting. Where there is that
-- entry, no others are looked for.

local own = KEYS[3] and redis.call('GET', KEYS[3])
local held, left = false, -1
if KEYS[4] and not (own and redis.call('PTTL', KEYS[3]) > tonumber(ARGV[5])) then
  held = redis.call('GET', KEYS[4])
  if held then left = math.max(0, redis.call('PTTL', KEYS[4])) else left = 0 end
  -- A full Redis may refuse it: then nobody waits.
  if not held then redis.pcall('SET', KEYS[4], ARGV[3], 'PX', ARGV[4]) end
end
if own then return {own, false, held, left} end

local out = {false, redis.call('HGET', KEYS[2], 'plan'), held, left}
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1)) do
  local value = redis.call('GET', ARGV[2] .. name)
  if value then
    out[#out + 1], out[#out + 2] = name, value
  else
    redis.call('ZREM', KEYS[1], name)
  end
end
return out
