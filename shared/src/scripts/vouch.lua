-- Vouches for a partition, unless a later epoch is known, or the relay read its row too long ago.
--
-- KEYS: epoch, vouch
-- ARGV: epoch (16 hex digits), '' or 'd' (degraded), Redis's time in ms just before the row was read, ms to vouch for
-- Returns 1 if vouched
-- Bound: 2 keys, 1 KiB

local known = redis.call('GET', KEYS[1])
if known and known > ARGV[1] then return 0 end
local now = now_ms()
local until_ms = tonumber(ARGV[3]) + tonumber(ARGV[4])
if until_ms <= now then return 0 end
-- A relay that has lost Postgres does not overrule one that has not.
if ARGV[2] == 'd' and redis.call('GET', KEYS[2]) == ARGV[1] then return 0 end
if known ~= ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2], 'PXAT', until_ms)
return 1
