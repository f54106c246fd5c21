-- Returns the state of limits without charging them.
--
-- KEYS: limits...   ARGV: clock, limits (see limits_core)
-- Returns (left, ms to reset) of every window
-- Bound: 21 keys, 2 KiB

local limits = parse_limits(1, 2)
local now = not_before_newest(limits, now_ms(ARGV[1]))
local out = {}
for _, each in ipairs(limits) do append_state(out, each, now) end
return out
