-- Fills a key, or only gives its lease back.
--
-- KEYS: key, fence, lease, floor   ARGV: token, value or '', ms that Redis keeps it
-- Returns 1 if filled; 0 if not (see fill_core)
-- Bound: 4 keys, 272 KiB

return fill()
