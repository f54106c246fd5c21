-- Fills a list of messages, or a message, and installs their reaction counts, of the same snapshot. Neither depends on the
-- other: counts need no lease.
--
-- KEYS: key, fence, lease, floor, vouch, ledger, stream, counts, their page
-- ARGV: token, value or '', ms that Redis keeps it (see fill_core), epoch, generation, position, ms that the counts live, the
--       snapshot (see install_core)
-- Returns 1 if filled, else 0; then 'closed' | 'late' | 'taken' | 'done', the counts of each message (see install_core)
-- Bound: 9 keys, 288 KiB

local filled = fill()
local out = refusal(5, 4)
out = out and { out } or install_counts(5, 4, 8)
table.insert(out, 1, filled)
return out
