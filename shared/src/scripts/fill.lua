-- Fills a key if the lease still stands and nothing speaks against the value (see fences_core). An empty value only gives
-- the lease back.
--
-- KEYS: key, fence, lease, floor   ARGV: token, value, ms that Redis keeps it
-- Returns 1 if filled; 0 if not: the value may be stale, and must not be shared
-- Bound: 4 keys, 272 KiB

local may = may_fill(KEYS[3], ARGV[1], KEYS[2], KEYS[4], string.sub(ARGV[2], SEEN_FIRST, SEEN_LAST))
if string.sub(redis.call('GET', KEYS[3]) or '', 1, 32) == ARGV[1] then redis.call('DEL', KEYS[3]) end
if not may or ARGV[2] == '' then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
