-- Whether copies count, as `Vouched` and `Envelope` in Rust judge it; a test compares the two. Not a script of its own.

-- Bytes: `t`, the kind of a plain text; `d`, which ends a degraded vouching.
local PLAIN_TEXT, DEGRADED = 116, 100

-- Parses a vouching: its epoch, and whether it is degraded. Nothing if it is absent or malformed.
local function parse_vouch(vouch)
  -- A degraded one ends in `d`, which is a hex digit as well.
  if not vouch or string.find(vouch, '[^0-9a-f]') then return end
  if #vouch == 16 then return vouch, false end
  if #vouch == 17 and string.byte(vouch, 17) == DEGRADED then return string.sub(vouch, 1, 16), true end
end

-- Whether a copy is of this epoch.
local function is_of(epoch, copy)
  return string.sub(copy, EPOCH_FIRST, EPOCH_LAST) == epoch
end

-- The text of a plain copy, if the copy is well-formed, of this epoch, and fresh; its age does not matter under a degraded vouching.
local function text_of(copy, epoch, degraded, now)
  if not copy or string.byte(copy) ~= WIRE_VERSION or string.byte(copy, KIND) ~= PLAIN_TEXT then return end
  if not is_of(epoch, copy) then return end
  -- Digits up to `seen`, hex digits from there to the kind: a `t` is neither.
  if string.find(copy, '%D', FRESH_UNTIL_FIRST) < SEEN_FIRST then return end
  if string.find(copy, '[^0-9a-f]', SEEN_FIRST) ~= KIND then return end
  if not degraded and tonumber(string.sub(copy, FRESH_UNTIL_FIRST, FRESH_UNTIL_LAST)) <= now then return end
  return string.sub(copy, KIND + 1)
end
