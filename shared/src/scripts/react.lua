-- Makes a reaction or takes it back.
--
-- KEYS: vouch, then as react_core   ARGV: as react_core
-- Returns what react_core returns
-- Bound: 6 keys, 1 KiB

return { react(vouched(KEYS[1]), 2, 1) }
