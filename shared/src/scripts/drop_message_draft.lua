-- Forgets a message that somebody composes.
--
-- KEYS: draft, sizes   ARGV: circle, wake channel, what the wake says
-- Returns how many there were: 0 or 1
-- Bound: 2 keys, 1 KiB

redis.call('HDEL', KEYS[2], ARGV[1])
local dropped = redis.call('DEL', KEYS[1])
if dropped > 0 then redis.call('SPUBLISH', ARGV[2], ARGV[3]) end
return { dropped }
