-- Reads a message that somebody composes.
--
-- KEYS: draft
-- Returns the ms that it is still kept, negative if there is none, and the text
-- Bound: 1 keys, 32 KiB

return { redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[1]) or '' }
