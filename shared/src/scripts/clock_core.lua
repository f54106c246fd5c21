-- The clock of every script. Not a script of its own.

-- Milliseconds since 1970 by Redis's own clock, or as a test gives them in text.
local function now_ms(given)
  if given and given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
