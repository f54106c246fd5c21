-- Asks for a key's lease, the right to fill it.
--
-- KEYS: key, fence, lease, floor   ARGV: token, ms that the lease lasts, vouched epoch (16 hex), now (14 digits)
-- Returns 'value', the good value that is there already | 'fenced', '' | 'leased', '' | 'granted', ''
-- Bound: 4 keys, 272 KiB

local value, floor = unpack(redis.call('MGET', KEYS[1], KEYS[4]))
if value and string.byte(value) == WIRE_VERSION and string.sub(value, EPOCH_FIRST, EPOCH_LAST) == ARGV[3]
  and string.sub(value, FRESH_UNTIL_FIRST, FRESH_UNTIL_LAST) > ARGV[4] then
  return { 'value', value }
end
if fences_up(KEYS[2]) > 0 then return { 'fenced', '' } end
-- The lease remembers the floor: see fences_core.
local lease = ARGV[1] .. (floor or '')
if redis.call('SET', KEYS[3], lease, 'NX', 'PX', ARGV[2]) then return { 'granted', '' } end
return { 'leased', '' }
