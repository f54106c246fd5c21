-- What is written behind, shared by the scripts that write, install and flush it. Not a script of its own.
--
-- A partition's writes lie in its stream until they are in Postgres. Its ledger is a hash: 'epoch', under which it takes
-- writes, 16 hex digits; 'generation', which Postgres knows it by; 'trimmed', up to which entries are gone, padded.
--
-- A message's reactions are a hash: '@', the epoch; '<place of the kind>:<user>' for each. Its circle's counts are a hash:
-- by message the epoch and a number for each kind, separated by commas.

-- The epoch that Redis is vouched for, or nil.
local function vouched(vouch_key)
  local vouch = redis.call('GET', vouch_key)
  return vouch and string.sub(vouch, 1, 16)
end

local function parse_counts(text)
  local counts = {}
  for number in string.gmatch(text, '%d+') do counts[#counts + 1] = tonumber(number) end
  return counts
end

-- A stream's id so that ids compare as texts.
local function padded(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.format('%015d-%010d', ms, seq)
end
