-- Reads a person's presence.
--
-- KEYS: presence
-- Returns the person's state, or 'offline'
-- Bound: 1 keys, 1 KiB

local state = presence(KEYS[1], now_ms(''))
return { state }
