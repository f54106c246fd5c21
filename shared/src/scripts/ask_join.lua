-- Asks to join a circle. Who asks again stands where they stood. Requests that are too old are forgotten.
--
-- KEYS: when who asked, what they wrote   ARGV: user, text, ms that a request lasts, how many there may be, how many are forgotten at once
-- Returns 'asked' or 'known', and the ms that the request still lasts; or 'full', 0
-- Bound: 2 keys, 2 KiB

local now = now_ms('')
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3], 'LIMIT', 0, ARGV[5])
if #old > 0 then
  redis.call('ZREM', KEYS[1], unpack(old))
  redis.call('HDEL', KEYS[2], unpack(old))
end
local since = redis.call('ZSCORE', KEYS[1], ARGV[1])
if since and since + ARGV[3] > now then return { 'known', since + ARGV[3] - now } end
if not since and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then return { 'full', 0 } end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return { 'asked', ARGV[3] }
