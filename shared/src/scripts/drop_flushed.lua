-- Drops a draft that is in Postgres if it still has this version; one that was saved since stays.
--
-- KEYS: draft   ARGV: version   Returns 1 if it was dropped
-- Bound: 1 keys, 1 KiB

local known = redis.call('HMGET', KEYS[1], 'version', 'flushed')
if known[1] ~= ARGV[1] or known[2] ~= '1' then return 0 end
return redis.call('DEL', KEYS[1])
