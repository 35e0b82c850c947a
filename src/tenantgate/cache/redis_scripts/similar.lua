-- The nearest neighbours of a vector and their entries, in one round trip, with the plan that says which of them will do.
-- KEYS: vector set; state of the bound; the very entry that is asked for, if it isn't known to be none. ARGV: vector as
-- float32, how many, entry's prefix, the least score
-- Gives that entry or nothing, the plan or nothing, then name, score, value, name, score, value … ; vectors whose entry is
-- gone are removed on meeting. Where there is that entry, no neighbours are looked for.

local own = KEYS[3] and redis.call('GET', KEYS[3])
if own then return {own, false} end

-- How many vectors to look at: Redis' own 200 take two to three times as long, and of the nearest that count they find
-- hardly more (benchmarks/bench_cache.py --neighbours).
local explored, size = 32, redis.call('VCARD', KEYS[1])
while size > 10000 do explored, size = explored * 2, size / 10 end

local found, out = redis.call(
  'VSIM', KEYS[1], 'FP32', ARGV[1], 'WITHSCORES', 'COUNT', ARGV[2], 'EF', math.max(explored, ARGV[2])
), {false, redis.call('HGET', KEYS[2], 'plan')}
for i = 1, #found, 2 do
  -- An entry is some kilobytes, and nobody would read those of farther ones.
  if tonumber(found[i + 1]) < tonumber(ARGV[4]) then break end
  local value = redis.call('GET', ARGV[3] .. found[i])
  if value then
    out[#out + 1], out[#out + 2], out[#out + 3] = found[i], found[i + 1], value
  else
    redis.call('VREM', KEYS[1], found[i])
  end
end
return out
