-- Admits a request in its user's slot, and reads the caller's membership of a circle, and whom the caller has blocked.
--
-- KEYS: session, membership, blocked (the session again for what is not wanted), limits...
-- ARGV: the first five as in admit_core, how many of the first three keys to read, limits
-- Returns what admit_core returns, and after 'ok' also, of three keys: blocked or ''
-- Bound: 7 keys, 37 KiB

local wanted = tonumber(ARGV[6])
local found = redis.call('MGET', unpack(KEYS, 1, wanted))
local out = admit(found[1], KEYS[2] ~= KEYS[1] and found[2], 4, 7)
if wanted == 3 and out[1] == 'ok' then out[#out + 1] = found[3] or '' end
return out
