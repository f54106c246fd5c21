-- Charges limits that need no session: those of an address or an account.
--
-- KEYS: limits...   ARGV: clock, entry, limits (see limits_core)
-- Returns 'refused', limit, window, ms to wait, (left, ms to reset) of every window
--       | 'charged' | 'found', 0, 0, 0, (left, ms)...
-- Bound: 3 keys, 1 KiB

local limits = parse_limits(1, 3)
local now, outcome, limit, window, wait = charge(limits, ARGV[2], now_ms(ARGV[1]))
local out = { outcome, limit or 0, window or 0, wait or 0 }
for _, each in ipairs(limits) do append_state(out, each, now) end
return out
