-- Drops the values that a committed write made stale, and the writer's fence if it is still up; voids leases given since.
--
-- KEYS: key, hidden, fence, lease   ARGV: token
-- Returns 1 if the key was warm and no other writer's fence remains: the caller refills it; else 0
-- Bound: 4 keys, 1 KiB

redis.call('HDEL', KEYS[3], 't:' .. ARGV[1])
local up = fences_up(KEYS[3])
local dropped = redis.call('DEL', KEYS[1], KEYS[2])
redis.call('DEL', KEYS[4])
if up > 0 then
  if dropped > 0 then redis.call('HSET', KEYS[3], 'warm', 1) end
  return 0
end
local warm = dropped > 0 or redis.call('HEXISTS', KEYS[3], 'warm') == 1
redis.call('DEL', KEYS[3])
return warm and 1 or 0
