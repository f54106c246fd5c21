-- Notes that a version of a draft is in Postgres. If it is still the newest, the draft's hour begins.
--
-- KEYS: draft, dirty drafts   ARGV: version, <user>:<draft>, ms that a flushed draft lives
-- Returns 1 if nothing newer waits
-- Bound: 2 keys, 1 KiB

local version = redis.call('HGET', KEYS[1], 'version')
if version and version ~= ARGV[1] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
if version then
  redis.call('HSET', KEYS[1], 'flushed', '1')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
