-- Fills a key, if the lease still stands. An empty value only gives the lease back.
--
-- KEYS: key, fence, lease   ARGV: token (32 characters), value, ms that Redis keeps it
-- Returns 1 if filled; 0 if the lease is gone: what was read may be stale, and must not be shared

local lease = redis.call('GET', KEYS[3])
if not lease or string.sub(lease, 1, 32) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[3])
if ARGV[2] == '' then return 0 end
-- A transaction that the relay has told of since, and that the value's snapshot may not have seen.
if string.sub(ARGV[2], 46, 61) <= string.sub(lease, 33) then return 0 end
if fences_up(KEYS[2], now_ms()) > 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
