-- Raises a writer's fence: hides the value, voids the lease, blocks fills.
--
-- The hidden value expires just before the first fence over it lapses: a silent writer may have committed, and a writer that
-- rolls back after its fence has lapsed must find nothing to unhide.
--
-- KEYS: key, hidden, fence, lease   ARGV: token, ms that the fence stands
-- Bound: 4 keys, 1 KiB

local now, stands = now_ms(), tonumber(ARGV[2])
fences_up(KEYS[3])
local deadline = redis.call('PEXPIRETIME', KEYS[1])
if deadline ~= -2 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('PEXPIRE', KEYS[2], stands - 100)
  redis.call('HSET', KEYS[3], 'warm', 1, 'deadline', deadline)
end
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[3], 't:' .. ARGV[1], now + stands)
redis.call('PEXPIRE', KEYS[3], stands)
return 1
