-- Shows people in a circle, or no longer, and wakes the circle's subscribers if that changes something.
--
-- The set's scores hold two numbers: four times the ms until which somebody is shown, and the state's place (1 to 3).
--
-- KEYS: online   ARGV: ms that they are shown, wake channel, what the wake says; of each person the id and the state's place,
--       0 to be shown no longer
-- Returns how many of them changed
-- Bound: 1 keys, 16 KiB

local now = now_ms('')
local changed = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now * 4)
for at = 4, #ARGV, 2 do
  local place = tonumber(ARGV[at + 1])
  local known = redis.call('ZSCORE', KEYS[1], ARGV[at])
  if place == 0 then
    changed = changed + redis.call('ZREM', KEYS[1], ARGV[at])
  else
    redis.call('ZADD', KEYS[1], (now + ARGV[1]) * 4 + place, ARGV[at])
    if not known or known % 4 ~= place then changed = changed + 1 end
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if changed > 0 then redis.call('SPUBLISH', ARGV[2], ARGV[3]) end
return { changed }
