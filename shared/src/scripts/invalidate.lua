-- Drops copies that a committed transaction made stale, for the relay. A value whose snapshot saw the transaction stays,
-- or may still be filled: the lease only notes the newest transaction that the fill must have seen.
--
-- KEYS: key, hidden, lease   ARGV: transaction id, 16 hex digits
-- Returns how many copies were dropped

local lease = redis.call('GET', KEYS[3])
if lease and string.sub(lease, 33) < ARGV[1] then
  redis.call('SET', KEYS[3], string.sub(lease, 1, 32) .. ARGV[1], 'KEEPTTL')
end
local dropped = redis.call('DEL', KEYS[2])
-- A hash is ahead of Postgres: it is rebuilt from Postgres and the unflushed entries.
if redis.call('TYPE', KEYS[1]).ok == 'hash' then return dropped + redis.call('DEL', KEYS[1]) end
local value = redis.call('GETRANGE', KEYS[1], SEEN_FIRST - 1, SEEN_LAST - 1)
if value ~= '' and value <= ARGV[1] then dropped = dropped + redis.call('DEL', KEYS[1]) end
return dropped
