-- Reads a cached value, with what decides whether to believe it, and counts a hit or a miss for the metrics.
--
-- KEYS: vouch, metrics, value, overlays...   ARGV: data type, now (14 digits), ms that counters live
-- Returns vouch or '', value or '', overlay or ''...

local out = redis.call('MGET', KEYS[1], KEYS[3], unpack(KEYS, 4))
local vouch, value = out[1], out[2]
local hit = vouch and value and string.byte(value) == 1
  and string.sub(value, 2, 17) == string.sub(vouch, 1, 16) and string.sub(value, 18, 31) > ARGV[2]
if redis.call('HINCRBY', KEYS[2], (hit and 'hit:' or 'miss:') .. ARGV[1], 1) == 1 then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
for index = 1, #KEYS - 1 do out[index] = out[index] or '' end
return out
