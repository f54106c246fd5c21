-- Removes a partition's entries that are in Postgres.
--
-- KEYS: ledger, stream   ARGV: generation, position, the id that follows it
-- Returns how many are left, or -1 if the partition is of another generation
-- Bound: 2 keys, 1 KiB

if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return -1 end
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[3])
local position = padded(ARGV[2])
if redis.call('HGET', KEYS[1], 'trimmed') < position then redis.call('HSET', KEYS[1], 'trimmed', position) end
return redis.call('XLEN', KEYS[2])
