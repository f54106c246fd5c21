-- Says up to where all streams hold their events, never less than before. Subscribers are told.
--
-- A position is '<timeline>.<xid>-<seq>'. Positions of another timeline are not compared by their transactions.
--
-- KEYS: settled, channel
-- ARGV: timeline, xid, seq, ms that the key lives
-- Bound: 2 keys, 1 KiB

local timeline, xid, seq = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('GET', KEYS[1])
if known then
  local t, x, s = string.match(known, '^(%d+)%.(%d+)%-(%d+)$')
  t, x, s = tonumber(t), tonumber(x), tonumber(s)
  local is_newer = t < timeline or (t == timeline and (x < xid or (x == xid and s < seq)))
  if not is_newer then
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    return
  end
end
local position = ARGV[1] .. '.' .. ARGV[2] .. '-' .. ARGV[3]
redis.call('SET', KEYS[1], position, 'PX', ARGV[4])
redis.call('SPUBLISH', KEYS[2], 'u ' .. position)
