-- Makes a reaction or takes it back: changes state and live counts and appends the entry to be flushed, in one step.
--
-- KEYS: vouch, ledger, stream, reactions, counts, their page
-- ARGV: user, circle, message, place of the kind, '1' to react | '0', entries that the stream may hold
-- Returns 'closed', '': the partition takes no writes of this epoch | 'absent', '': Redis lacks the message's state
--       | 'full', '' | 'same', counts: nothing changes | 'done', counts
-- Bound: 6 keys, 1 KiB

local epoch = vouched(KEYS[1])
if not epoch or redis.call('HGET', KEYS[2], 'epoch') ~= epoch then return { 'closed', '' } end
local counts = redis.call('HGET', KEYS[5], ARGV[3])
if not counts or string.sub(counts, 1, 16) ~= epoch or redis.call('HGET', KEYS[4], '@') ~= epoch then
  return { 'absent', '' }
end
local member = ARGV[4] .. ':' .. ARGV[1]
if redis.call('HEXISTS', KEYS[4], member) == tonumber(ARGV[5]) then return { 'same', string.sub(counts, 17) } end
if redis.call('XLEN', KEYS[3]) >= tonumber(ARGV[6]) then return { 'full', '' } end
redis.call('XADD', KEYS[3], '*', 'reaction', table.concat({ ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] }, ' '))
local numbers, place = parse_counts(string.sub(counts, 17)), tonumber(ARGV[4])
for index = #numbers + 1, place do numbers[index] = 0 end
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[4], member, '')
  numbers[place] = numbers[place] + 1
else
  redis.call('HDEL', KEYS[4], member)
  numbers[place] = math.max(numbers[place] - 1, 0)
end
local text = table.concat(numbers, ',')
redis.call('HSET', KEYS[5], ARGV[3], epoch .. text)
redis.call('DEL', KEYS[6])
return { 'done', text }
