-- Reads who is present in a circle and who types there.
--
-- KEYS: online, typing   ARGV: the most who are listed as present
-- Returns how many are present; how many are listed, and of each the id and the state's place; of each who types the id and
--         the ms left
-- Bound: 2 keys, 48 KiB

local now = now_ms('')
local present = redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now * 4 + 3), '+inf')
local out = { present, 0 }
if present <= tonumber(ARGV[1]) then
  local listed = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now * 4 + 3), '+inf', 'WITHSCORES')
  out[2] = #listed / 2
  for at = 1, #listed, 2 do
    out[#out + 1] = listed[at]
    out[#out + 1] = listed[at + 1] % 4
  end
end
local typing = redis.call('ZRANGEBYSCORE', KEYS[2], string.format('(%.0f', now), '+inf', 'WITHSCORES')
for at = 1, #typing, 2 do
  out[#out + 1] = typing[at]
  out[#out + 1] = typing[at + 1] - now
end
return out
