-- Lists what somebody has looked at lately, the newest first.
--
-- KEYS: recent   ARGV: ms that each is remembered, how many at most
-- Returns of each what, and the ms that it is still remembered
-- Bound: 1 keys, 16 KiB

local now = now_ms('')
local out = {}
local oldest = string.format('(%.0f', now - ARGV[1])
local all = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', oldest, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for at = 1, #all, 2 do
  out[#out + 1] = all[at]
  out[#out + 1] = all[at + 1] + ARGV[1] - now
end
return out
