-- A reaction made or taken back, shared by the scripts that react. Not a script of its own.
--
-- Changes state and live counts and appends the entry to be flushed, in one step, under the vouched epoch.
--
-- KEYS from `key` on: ledger, stream, reactions, counts, their page
-- ARGV from `at` on: user, circle, message, place of the kind, '1' to react | '0', entries that the stream may hold
-- Returns 'closed', '': the partition takes no writes of this epoch | 'absent', '': Redis lacks the message's state
--       | 'full', '' | 'same', counts: nothing changes | 'done', counts

local function react(epoch, key, at)
  local stream, reactions, all_counts = KEYS[key + 1], KEYS[key + 2], KEYS[key + 3]
  local user, message, place, on = ARGV[at], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  if not epoch or redis.call('HGET', KEYS[key], 'epoch') ~= epoch then return 'closed', '' end
  local counts = redis.call('HGET', all_counts, message)
  local member = place .. ':' .. user
  local state = redis.call('HMGET', reactions, '@', member)
  if not counts or string.sub(counts, 1, 16) ~= epoch or state[1] ~= epoch then return 'absent', '' end
  if (state[2] and '1' or '0') == on then return 'same', string.sub(counts, 17) end
  if redis.call('XLEN', stream) >= tonumber(ARGV[at + 5]) then return 'full', '' end
  redis.call('XADD', stream, '*', 'reaction', table.concat({ user, ARGV[at + 1], message, place, on }, ' '))
  local numbers, index = parse_counts(string.sub(counts, 17)), tonumber(place)
  for missing = #numbers + 1, index do numbers[missing] = 0 end
  if on == '1' then
    redis.call('HSET', reactions, member, '')
    numbers[index] = numbers[index] + 1
  else
    redis.call('HDEL', reactions, member)
    numbers[index] = math.max(numbers[index] - 1, 0)
  end
  local text = table.concat(numbers, ',')
  redis.call('HSET', all_counts, message, epoch .. text)
  redis.call('DEL', KEYS[key + 4])
  -- The channel of the stream's partition.
  redis.call('SPUBLISH', 'wake' .. string.sub(stream, 7), 's reactions ' .. ARGV[at + 1])
  return 'done', text
end
