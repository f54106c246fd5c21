-- Admits a request in its user's slot, and reads the caller's membership of a circle.
--
-- KEYS: session, membership (the session again if none is wanted), limits...
-- ARGV: the first five as in admit_core, '1' if the membership is wanted, limits
-- Returns what admit_core returns
-- Bound: 6 keys, 1 KiB

local found = ARGV[6] == '1' and redis.call('MGET', KEYS[1], KEYS[2]) or { redis.call('GET', KEYS[1]) }
return admit(found[1], found[2], 3, 7)
