-- Notes what a person's circles have been told. It wakes the person's subscribers if that is new: a lease may have ended.
--
-- KEYS: presence, due   ARGV: user, the state or 'offline', ms until who is present is shown anew, wake channel,
--       what the wake says
-- Returns 1
-- Bound: 2 keys, 1 KiB

local now = now_ms('')
local told = shown_before(KEYS[1])
if told == 'renew' then
  -- Since the claim: what was shown may be what is not to be shown any more.
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  return { 1 }
end
local _, shown, first_end, devices = presence(KEYS[1], now)
if devices == 0 and ARGV[2] == 'offline' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif devices == 0 then
  -- The last lease has ended meanwhile. Without a presence nothing else would say that the circles know an older state.
  redis.call('ZADD', KEYS[2], now, ARGV[1])
else
  redis.call('HSET', KEYS[1], 'shown', string.format('%.0f %s', now, ARGV[2]))
  local due = due_at(now, ARGV[2], now, shown, first_end, tonumber(ARGV[3]))
  redis.call('ZADD', KEYS[2], due, ARGV[1])
end
if told ~= ARGV[2] then redis.call('SPUBLISH', ARGV[4], ARGV[5]) end
return { 1 }
