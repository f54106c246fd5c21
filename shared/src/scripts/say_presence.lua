-- Notes the state of one of a person's devices, for the length of a lease. It wakes the person's subscribers if the person's state
-- changes, and makes the person due if others see another state than the circles have been told.
--
-- KEYS: presence, due   ARGV: user, device, state, ms of a lease, devices at most, ms until who is present is shown anew,
--       ms that the keys live: presence, due; wake channel, what the wake says
-- Returns the person's state
-- Bound: 2 keys, 1 KiB

local now = now_ms('')
local before = presence(KEYS[1], now)
redis.call('HSET', KEYS[1], 'd:' .. ARGV[2], string.format('%.0f %s', now + ARGV[4], ARGV[3]))
local state, shown, first_end, devices, first = presence(KEYS[1], now)
if devices > tonumber(ARGV[5]) then
  redis.call('HDEL', KEYS[1], first)
  state, shown, first_end = presence(KEYS[1], now)
end
local told, told_at = shown_before(KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('ZADD', KEYS[2], due_at(now, told, told_at, shown, first_end, tonumber(ARGV[6])), ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
if before ~= state then redis.call('SPUBLISH', ARGV[9], ARGV[10]) end
return { state }
