-- Fills a key if the lease still stands. An empty value only gives the lease back.
--
-- KEYS: key, fence, lease   ARGV: token (32 characters), value, ms that Redis keeps it
-- Returns 1 if filled; 0 if the lease is gone: the value may be stale, and must not be shared

local stands = lease_stands(KEYS[3], ARGV[1], string.sub(ARGV[2], SEEN_FIRST, SEEN_LAST))
if string.sub(redis.call('GET', KEYS[3]) or '', 1, 32) == ARGV[1] then redis.call('DEL', KEYS[3]) end
if not stands or ARGV[2] == '' then return 0 end
if fences_up(KEYS[2], now_ms()) > 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
