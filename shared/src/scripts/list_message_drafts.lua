-- Lists the circles in which somebody composes a message.
--
-- KEYS: sizes
-- Returns of each the circle's id, and the ms that its draft is still kept
-- Bound: 1 keys, 8 KiB

local now = now_ms('')
local out = {}
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local left = tonumber(string.match(all[at + 1], '^%d+') or 0) - now
  if left > 0 then
    out[#out + 1] = all[at]
    out[#out + 1] = left
  end
end
return out
