-- Takes up a person who is due, so that nobody else does for a while.
--
-- KEYS: presence, due   ARGV: user, ms for which nobody else takes the person up
-- Returns '' if the person is not due any more, else what others see: a state, or 'offline'
-- Bound: 2 keys, 1 KiB

local now = now_ms('')
local due = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '')
if not due or due > now then return { '' } end
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
local _, shown = presence(KEYS[1], now)
-- Whoever claims is about to tell them.
if redis.call('HGET', KEYS[1], 'shown') == '0 renew' then redis.call('HDEL', KEYS[1], 'shown') end
return { shown }
