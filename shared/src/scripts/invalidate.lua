-- Drops copies that a committed transaction made stale: the relay's way. A value that was read with a snapshot that saw
-- the transaction stays.
--
-- KEYS: key, hidden, lease   ARGV: transaction id, 16 hex digits
-- Returns how many copies were dropped

redis.call('DEL', KEYS[3])
local dropped = redis.call('DEL', KEYS[2])
local value = redis.call('GETRANGE', KEYS[1], 45, 60)
if value ~= '' and value <= ARGV[1] then dropped = dropped + redis.call('DEL', KEYS[1]) end
return dropped
