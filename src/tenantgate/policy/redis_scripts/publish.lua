-- Make a version of what was staged, unless somebody was faster.
-- KEYS: head, versions, index, contents, staged (tenant -> hash, '' for a removal), undo (of the new version)
-- ARGV: the head that is expected ('' for none), number, the new head, how many are staged
local head, versions, index, contents, staged, undo = unpack(KEYS)
if (redis.call('GET', head) or '') ~= ARGV[1] then return 'conflict' end
local changes = redis.call('HGETALL', staged)
if #changes ~= 2 * tonumber(ARGV[4]) then return 'again' end -- what was staged has expired
for i = 2, #changes, 2 do
  if changes[i] ~= '' and redis.call('HEXISTS', contents, changes[i]) == 0 then return 'again' end
end

-- The first write must be one that a full Redis refuses: after any other it would let all the rest pass.
redis.call('HSET', versions, ARGV[2], ARGV[3])
redis.call('UNLINK', undo)
for i = 1, #changes, 2 do
  local tenant, hash = changes[i], changes[i + 1]
  redis.call('HSET', undo, tenant, redis.call('HGET', index, tenant) or '')
  if hash == '' then redis.call('HDEL', index, tenant) else redis.call('HSET', index, tenant, hash) end
end
redis.call('SET', head, ARGV[3])
redis.call('UNLINK', staged)
return 'published'
