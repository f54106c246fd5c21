-- Reads a person's reactions to messages that a snapshot of Postgres lacks: the entries of the stream after it.
--
-- KEYS: vouch, ledger, stream   ARGV: epoch, generation, position, user, messages...
-- Returns 'closed': another epoch or generation | 'late': flushed since, read again
--       | 'done', then of each message and kind the last intent: message, place of the kind, '1' reacted | '0' taken back
-- Bound: 3 keys, 32 KiB

local ledger = redis.call('HMGET', KEYS[2], 'epoch', 'generation', 'trimmed')
if vouched(KEYS[1]) ~= ARGV[1] or ledger[1] ~= ARGV[1] or ledger[2] ~= ARGV[2] then return { 'closed' } end
if ledger[3] > padded(ARGV[3]) then return { 'late' } end
local asked, last = {}, {}
for at = 5, #ARGV do asked[ARGV[at]] = true end
for _, entry in ipairs(unflushed(KEYS[3], ARGV[3])) do
  if entry[2][1] == 'reaction' then
    local user, message, place, on = string.match(entry[2][2], '^(%S+) %S+ (%S+) (%d+) ([01])$')
    if user == ARGV[4] and asked[message] then last[message .. place] = { message, place, on } end
  end
end
local out = { 'done' }
for _, intent in pairs(last) do
  for _, part in ipairs(intent) do out[#out + 1] = part end
end
return out
