-- The fill of a key, shared by the scripts that fill. Not a script of its own.
--
-- KEYS: key, fence, lease, floor, …   ARGV: token, value, ms that Redis keeps it, …

-- Gives the lease back, and fills the key if the lease still stood and nothing speaks against the value (see fences_core). An
-- empty value only gives the lease back. Returns 1 if filled; 0 if not: the value may be stale, and must not be shared.
local function fill()
  local lease, floor = unpack(redis.call('MGET', KEYS[3], KEYS[4]))
  local may = may_fill(lease, ARGV[1], KEYS[2], floor, string.sub(ARGV[2], SEEN_FIRST, SEEN_LAST))
  if is_lease_of(lease, ARGV[1]) then redis.call('DEL', KEYS[3]) end
  if not may or ARGV[2] == '' then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
