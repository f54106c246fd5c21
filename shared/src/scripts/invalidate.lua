-- Drops copies that a committed transaction made stale, for the relay, and leaves a floor: the newest transaction that a
-- fill must have seen, whether or not anyone holds the lease. A floor is never lowered; each telling renews its time. A
-- value whose snapshot saw the transaction stays.
--
-- KEYS: key, hidden, floor   ARGV: transaction id, 16 hex digits; ms that the floor lasts; 'r' | 'p' (see fences_core)
-- Returns how many copies were dropped
-- Bound: 3 keys, 1 KiB

local floor = redis.call('GET', KEYS[3]) or ''
local newest, source = string.sub(floor, 1, 16), string.sub(floor, 17, 17)
local older = tonumber(string.sub(floor, 18)) or 0
if newest < ARGV[1] then newest = ARGV[1] elseif newest > ARGV[1] then older = older + 1 end
if source ~= 'r' then source = ARGV[3] end
redis.call('SET', KEYS[3], newest .. source .. older, 'PX', ARGV[2])
local dropped = redis.call('DEL', KEYS[2])
-- A hash is ahead of Postgres: it is rebuilt from Postgres and the unflushed entries.
if redis.call('TYPE', KEYS[1]).ok == 'hash' then return dropped + redis.call('DEL', KEYS[1]) end
local value = redis.call('GETRANGE', KEYS[1], SEEN_FIRST - 1, SEEN_LAST - 1)
if value ~= '' and value <= ARGV[1] then dropped = dropped + redis.call('DEL', KEYS[1]) end
return dropped
