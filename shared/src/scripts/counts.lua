-- The reaction counts of a cached list's first items. Of the list it reads no more than the ids that it begins with.
--
-- KEYS: the list, the hash of its circle's counts   ARGV: how many items at most
-- Returns the items' ids one behind the other, and what the hash has for each of them, or '', one a line

local head = redis.call('GETRANGE', KEYS[1], 0, 62 + 36 * ARGV[1])
-- An envelope, of an indexed list.
if string.byte(head, 1) ~= 1 or string.byte(head, 62) ~= 105 then return { '', '' } end
local ids = {}
for index = 1, math.min(string.byte(head, 63), ARGV[1]) do
  ids[index] = string.sub(head, 28 + 36 * index, 63 + 36 * index)
end
if #ids == 0 then return { '', '' } end
local counts = redis.call('HMGET', KEYS[2], unpack(ids))
for index = 1, #ids do counts[index] = counts[index] or '' end
return { table.concat(ids), table.concat(counts, '\n') }
