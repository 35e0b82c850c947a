-- The entries of a bucket, in one round trip, with the plan that says which of them will do.
-- KEYS: bucket; state of the bound; the very entry that is asked for, if it isn't known to be none. ARGV: how many, entry's
-- prefix
-- Gives that entry or nothing, the plan or nothing, then name, value, name, value … ; names whose entry is gone are removed
-- on meeting. Where there is that entry, no others are looked for.

local own = KEYS[3] and redis.call('GET', KEYS[3])
if own then return {own, false} end

local out = {false, redis.call('HGET', KEYS[2], 'plan')}
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1)) do
  local value = redis.call('GET', ARGV[2] .. name)
  if value then
    out[#out + 1], out[#out + 2] = name, value
  else
    redis.call('ZREM', KEYS[1], name)
  end
end
return out
