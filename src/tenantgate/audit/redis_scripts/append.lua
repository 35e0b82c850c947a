-- KEYS: records, contents, head. ARGV: whether these are the last; an entry's own size; five for each entry: position,
-- seq, hash, record, content. What is there already must be these very entries. Gives the last entry's number: if that
-- isn't the last one's of these, some between it and these were lost, and nothing is appended.
local last = tonumber(redis.call('HGET', KEYS[3], 'position') or '-1')
local seq = tonumber(redis.call('HGET', KEYS[3], 'seq') or '-1')
for i = 3, #ARGV, 5 do
  if tonumber(ARGV[i]) > last then
    if seq >= 0 and tonumber(ARGV[i + 1]) > seq + 1 then return seq end
    if seq >= 0 and tonumber(ARGV[i + 1]) ~= seq + 1 then return redis.error_reply('CONFLICT') end
    local id = redis.call('XADD', KEYS[1], '*', 'position', ARGV[i], 'record', ARGV[i + 3])
    redis.call('HSET', KEYS[2], id, ARGV[i + 4])
    redis.call('HSET', KEYS[3], 'position', ARGV[i], 'seq', ARGV[i + 1], 'hash', ARGV[i + 2])
    redis.call('HINCRBY', KEYS[3], 'bytes', #ARGV[i + 3] + #ARGV[i + 4] + ARGV[2])
    last = tonumber(ARGV[i])
    seq = tonumber(ARGV[i + 1])
  end
end
if ARGV[1] == '1' and redis.call('HGET', KEYS[3], 'hash') ~= ARGV[#ARGV - 2] then
  return redis.error_reply('CONFLICT')
end
-- Something is written in any case: who waits for replicas waits for this, and all that came before.
redis.call('HINCRBY', KEYS[3], 'bytes', 0)
return seq
