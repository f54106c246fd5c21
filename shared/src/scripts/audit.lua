-- Compares messages' reactions in Redis with a snapshot of Postgres plus the entries after it. With '1', drops what
-- differs: it is installed again when it is wanted.
--
-- KEYS: vouch, ledger, stream, counts, their page, and if one message's reactions are compared: reactions, fence
-- ARGV: generation, position, '1' to drop what differs, message whose reactions are compared or '',
--       the snapshot (see writes_core)
-- Returns 'closed' | 'late': not comparable now | 'checked', how many were compared, how many differed
-- Bound: 7 keys, 480 KiB, uncapped: reactions to a message

local epoch = vouched(KEYS[1])
local ledger = redis.call('HMGET', KEYS[2], 'epoch', 'generation', 'trimmed')
if not epoch or ledger[1] ~= epoch or ledger[2] ~= ARGV[1] then return { 'closed', 0, 0 } end
if ledger[3] > padded(ARGV[2]) then return { 'late', 0, 0 } end
local messages, counts, members = parse_snapshot(5)
add_unflushed(unflushed(KEYS[3], ARGV[2]), counts, ARGV[4], members)

local checked, differ = 0, 0
local function compared(same, drop)
  checked = checked + 1
  if same then return end
  differ = differ + 1
  if ARGV[3] == '1' then drop() end
end

for _, message in ipairs(messages) do
  local known = redis.call('HGET', KEYS[4], message)
  if known and string.sub(known, 1, 16) == epoch then
    local numbers, expected, same = parse_counts(string.sub(known, 17)), counts[message], true
    if type(expected) == 'string' then expected = parse_counts(expected) end
    for place = 1, math.max(#numbers, #expected) do
      same = same and (numbers[place] or 0) == (expected[place] or 0)
    end
    compared(same, function()
      redis.call('HDEL', KEYS[4], message)
      redis.call('DEL', KEYS[5])
    end)
  end
end
local page = redis.call('GET', KEYS[5])
if page then
  local same, at = true, string.find(page, '\n', 1, true)
  for id in string.gmatch(string.sub(page, 1, at - 1), string.rep('.', 36)) do
    local rest = string.find(page, '\n', at + 1, true) or #page + 1
    same = same and string.sub(page, at + 1, rest - 1) == (redis.call('HGET', KEYS[4], id) or '')
    at = rest
  end
  compared(same and at > #page, function() redis.call('DEL', KEYS[5]) end)
end
if ARGV[4] ~= '' and redis.call('HGET', KEYS[6], '@') == epoch and redis.call('EXISTS', KEYS[7]) == 0 then
  local same, found, expected = true, 0, 0
  for _, member in ipairs(redis.call('HKEYS', KEYS[6])) do
    if member ~= '@' then
      found = found + 1
      same = same and members[member] == true
    end
  end
  for _ in pairs(members) do expected = expected + 1 end
  compared(same and found == expected, function() redis.call('DEL', KEYS[6]) end)
end
return { 'checked', checked, differ }
