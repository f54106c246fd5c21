-- Notes the sizes of a person's drafts, as Postgres has them.
--
-- KEYS: vouch, sizes   ARGV: epoch, ms that they live, their sum, then for each draft: id, bytes
-- Returns 1 if they were noted; 0 if another epoch is vouched for, or none
-- Bound: 2 keys, 48 KiB

if vouched(KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], '@', ARGV[1], '+', ARGV[3])
for at = 4, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
