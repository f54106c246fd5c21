-- The reaction counts of a cached list's first items. Of the list it reads no more than the ids that it begins with.
--
-- KEYS: the list, the hash of its circle's counts, where the page is kept   ARGV: how many items at most, '1' to keep it
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
-- No longer than the hash. A Redis without room answers all the same.
local lives = is_known and ARGV[2] == '1' and redis.call('PTTL', KEYS[2]) or 0
if lives > 0 then redis.pcall('SET', KEYS[3], page, 'PX', lives) end
return page
