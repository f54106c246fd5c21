-- Makes a person due, if the person is present: what the circles have been told does not hold any more.
--
-- KEYS: presence, due   ARGV: user, ms that the latter lives
-- Returns 1
-- Bound: 2 keys, 1 KiB

if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'shown', '0 renew')
  redis.call('ZADD', KEYS[2], now_ms(''), ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return { 1 }
