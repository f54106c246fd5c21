-- Reads the reaction counts of a cached list's first items. Of the list it reads only the ids at its beginning.
--
-- KEYS: list, its circle's counts, page   ARGV: most items, '1' to keep the page
-- Returns a page: the items' ids, concatenated, then a line for each with its counts, or empty;
--         '' if there is no such list
-- Bound: 3 keys, 12 KiB

-- Redis counts bytes from 0.
local head = redis.call('GETRANGE', KEYS[1], 0, ITEM_IDS - 2 + ID_LENGTH * ARGV[1])
if string.byte(head, 1) ~= WIRE_VERSION or string.byte(head, KIND) ~= INDEXED_LIST then return '' end
local ids = {}
for index = 1, math.min(string.byte(head, ITEM_COUNT), ARGV[1]) do
  local past = ITEM_IDS + ID_LENGTH * index
  ids[index] = string.sub(head, past - ID_LENGTH, past - 1)
end
if #ids == 0 then return '' end
local counts, is_known = redis.call('HMGET', KEYS[2], unpack(ids)), false
for index = 1, #ids do
  is_known = is_known or counts[index]
  counts[index] = counts[index] or ''
end
local page = table.concat(ids) .. '\n' .. table.concat(counts, '\n')
-- The page does not outlive the counts. A Redis without room still answers.
local lives = is_known and ARGV[2] == '1' and redis.call('PTTL', KEYS[2]) or 0
if lives > 0 then redis.pcall('SET', KEYS[3], page, 'PX', lives) end
return page
