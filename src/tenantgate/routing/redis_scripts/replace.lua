-- Replace a sealed record, if it still is the one that was read.
-- KEYS: the record, the index of records. ARGV: what was read, '' if nothing; the new record; its life in ms; its name
-- in the index, '' for a record that isn't in it; when it ends, Unix ms
-- Gives 1 if it was replaced, else 0.
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])
end
return 1
