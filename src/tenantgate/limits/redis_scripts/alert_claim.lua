-- Take what waits to be done, so that nobody else does it for a while.
-- KEYS: a sorted set by Unix ms at which each is due, or a hash of values "DUE_MS …".
-- ARGV: how many at most, ms for which they are the caller's.
-- Gives Redis' time in ms; then of a sorted set its members, of a hash its fields each with its value.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = string.format('%.0f', now + ARGV[2])
local taken = {string.format('%.0f', now)}
if call('TYPE', KEYS[1]).ok == 'zset' then
  for _, member in ipairs(call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
    call('ZADD', KEYS[1], mine, member)
    taken[#taken + 1] = member
  end
  return taken
end
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local due, rest = string.match(all[i + 1], '^(%d+) (.*)$')
  if #taken > 2 * ARGV[1] then break end
  if due and tonumber(due) <= now then
    call('HSET', KEYS[1], all[i], mine .. ' ' .. rest)
    taken[#taken + 1] = all[i]
    taken[#taken + 1] = rest
  end
end
return taken
