-- Removes a failed attempt's entry, unless a retry has found it since.
--
-- KEYS: sliding limits...   ARGV: entry
-- Returns how many entries were given back
-- Bound: 4 keys, 1 KiB

local given = 0
for _, key in ipairs(KEYS) do given = given + redis.call('ZREM', key, ARGV[1]) end
return given
