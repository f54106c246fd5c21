-- Reads a cached value, with what decides whether to believe it and what is joined to it, and counts a hit or a miss for
-- the metrics.
--
-- KEYS: vouch, metrics, value, strings..., and the hash of the circle's reaction counts, if they are wanted
-- ARGV: data type, now (14 digits), ms that counters live,
--       which counts: '' none | 'one', message | 'list', how many of the value's items
-- Returns vouch or '', value or '', string or ''..., and the counts as they are, or '', one a line

local hashes = ARGV[4] == '' and 0 or 1
local out = redis.call('MGET', KEYS[1], KEYS[3], unpack(KEYS, 4, #KEYS - hashes))
local vouch, value = out[1], out[2]
local hit = vouch and value and string.byte(value) == 1
  and string.sub(value, 2, 17) == string.sub(vouch, 1, 16) and string.sub(value, 18, 31) > ARGV[2]
if redis.call('HINCRBY', KEYS[2], (hit and 'hit:' or 'miss:') .. ARGV[1], 1) == 1 then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
local size = #KEYS - 1 - hashes
for index = 1, size do out[index] = out[index] or '' end
if ARGV[4] == 'one' then
  out[size + 1] = redis.call('HGET', KEYS[#KEYS], ARGV[5]) or ''
elseif ARGV[4] == 'list' then
  out[size + 1] = ''
  -- An indexed list begins with its items' ids.
  if value and string.byte(value) == 1 and string.byte(value, 62) == 105 then
    local ids = {}
    for index = 1, math.min(string.byte(value, 63), tonumber(ARGV[5])) do
      ids[index] = string.sub(value, 28 + 36 * index, 63 + 36 * index)
    end
    if #ids > 0 then
      local counts = redis.call('HMGET', KEYS[#KEYS], unpack(ids))
      for index = 1, #ids do counts[index] = counts[index] or '' end
      out[size + 1] = table.concat(counts, '\n')
    end
  end
end
return out
