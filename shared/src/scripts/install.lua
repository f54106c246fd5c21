-- Installs a snapshot of messages' reactions in Postgres plus the unflushed entries: the counts of all of them and, if
-- wanted, everyone who reacted to one of them.
--
-- The snapshot includes the partition's generation and position. If the stream was trimmed past that position, the
-- snapshot lacks those entries, and nothing is installed.
--
-- KEYS: vouch, ledger, stream, counts, their page, and if one message's reactions are wanted: reactions, fence, lease, floor
-- ARGV: epoch, generation, position, ms that it lives, message whose reactions are wanted or '', token of the lease,
--       the snapshot's horizon (16 hex digits), the snapshot (see writes_core)
-- Returns 'closed': another epoch or generation | 'late': flushed or changed since, read again
--       | 'done', the counts of each message
-- Bound: 9 keys, 480 KiB, uncapped: reactions to a message

local epoch = vouched(KEYS[1])
local ledger = redis.call('HMGET', KEYS[2], 'epoch', 'generation', 'trimmed')
if epoch ~= ARGV[1] or ledger[1] ~= ARGV[1] or ledger[2] ~= ARGV[2] then return { 'closed' } end
if ledger[3] > padded(ARGV[3]) then return { 'late' } end
local wanted = ARGV[5] ~= '' and redis.call('HGET', KEYS[6], '@') ~= epoch and ARGV[5]
if wanted and not may_fill(KEYS[8], ARGV[6], KEYS[7], KEYS[9], ARGV[7]) then return { 'late' } end

local messages, counts, members = parse_snapshot(8)
local known, lacks = #messages > 0 and redis.call('HMGET', KEYS[4], unpack(messages)) or {}, wanted
for index = 1, #messages do
  if not known[index] or string.sub(known[index], 1, 16) ~= epoch then
    known[index], lacks = false, true
  end
end
-- Reads the stream only if something is missing.
if lacks then add_unflushed(KEYS[3], ARGV[3], counts, wanted, members) end

local out, new = { 'done' }, {}
for index, message in ipairs(messages) do
  local count = known[index]
  if not count then
    count = counts[message]
    count = epoch .. (type(count) == 'table' and table.concat(count, ',') or count)
    new[#new + 1] = message
    new[#new + 1] = count
  end
  out[index + 1] = string.sub(count, 17)
end
if #new > 0 then
  redis.call('HSET', KEYS[4], unpack(new))
  redis.call('DEL', KEYS[5])
end
redis.call('PEXPIRE', KEYS[4], ARGV[4], 'NX')
if wanted then
  redis.call('DEL', KEYS[6], KEYS[8])
  redis.call('HSET', KEYS[6], '@', epoch)
  for member in pairs(members) do redis.call('HSET', KEYS[6], member, '') end
  redis.call('PEXPIRE', KEYS[6], ARGV[4])
end
return out
