-- Remembers what somebody has looked at, and when. Whatever else is too old, or one too many, is forgotten.
--
-- KEYS: recent   ARGV: what, ms that each is remembered, how many at most
-- Returns 1
-- Bound: 1 keys, 1 KiB

local now = now_ms('')
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { 1 }
