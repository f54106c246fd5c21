-- Notes that somebody types in a circle, and wakes its subscribers: each time, since they forget who types.
--
-- KEYS: typing   ARGV: user, ms that it lasts, the most who type at once, wake channel, what the wake says
-- Returns 'done' | 'full': so many type that one more says nothing
-- Bound: 1 keys, 1 KiB

local now = now_ms('')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local is_known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not is_known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return { 'full' } end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SPUBLISH', ARGV[4], ARGV[5])
return { 'done' }
