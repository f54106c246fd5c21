-- Undoes a fence after a rollback that is certain. The value returns once no other writer's fence is up.
--
-- KEYS: key, hidden, fence, lease   ARGV: token
-- Bound: 4 keys, 1 KiB

redis.call('HDEL', KEYS[3], 't:' .. ARGV[1])
if fences_up(KEYS[3]) > 0 then return 0 end
local deadline = redis.call('HGET', KEYS[3], 'deadline')
redis.call('DEL', KEYS[3])
if deadline and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], KEYS[1])
  if tonumber(deadline) > 0 then redis.call('PEXPIREAT', KEYS[1], deadline) else redis.call('PERSIST', KEYS[1]) end
  return 1
end
return 0
