-- The reaction counts of a cached list's first items. Of the list it reads no more than the ids that it begins with.
--
-- KEYS: the list, the hash of its circle's counts   ARGV: how many items at most, '1' to keep the page in the hash
-- Returns a page: the items' ids one behind the other, then for each of them, on a line of its own, what the hash has, or
--         nothing; '' if there is no such list

local head = redis.call('GETRANGE', KEYS[1], 0, 62 + 36 * ARGV[1])
-- An envelope, of an indexed list.
if string.byte(head, 1) ~= 1 or string.byte(head, 62) ~= 105 then return '' end
local ids = {}
for index = 1, math.min(string.byte(head, 63), ARGV[1]) do
  ids[index] = string.sub(head, 28 + 36 * index, 63 + 36 * index)
end
if #ids == 0 then return '' end
local counts, is_known = redis.call('HMGET', KEYS[2], unpack(ids)), false
for index = 1, #ids do
  is_known = is_known or counts[index]
  counts[index] = counts[index] or ''
end
local page = table.concat(ids) .. '\n' .. table.concat(counts, '\n')
-- In a hash that is there, and lapses. A Redis without room answers all the same.
if ARGV[2] == '1' and is_known then redis.pcall('HSET', KEYS[2], '@', page) end
return page
