-- Opens a partition for writes of the vouched epoch. Its earlier entries are in Postgres.
--
-- KEYS: vouch, ledger, stream   ARGV: epoch, generation, floor: new ids follow it
-- Returns 'open' | 'stale': another epoch is vouched, or a later generation is open
-- Bound: 3 keys, 1 KiB

if vouched(KEYS[1]) ~= ARGV[1] then return 'stale' end
local generation = redis.call('HGET', KEYS[2], 'generation')
if generation and tonumber(generation) >= tonumber(ARGV[2]) then return 'stale' end
redis.call('DEL', KEYS[3])
-- Ids never go back, even if the clock does.
redis.call('XADD', KEYS[3], 'MAXLEN', 0, ARGV[3], 'floor', '')
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'generation', ARGV[2], 'trimmed', padded(ARGV[3]))
return 'open'
