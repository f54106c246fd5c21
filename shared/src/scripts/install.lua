-- Installs a snapshot of messages' reactions in Postgres plus the unflushed entries: the counts of all of them and, if
-- wanted, everyone who reacted to one of them.
--
-- KEYS: vouch, ledger, stream, counts, their page, and if one message's reactions are wanted: reactions, fence, lease, floor
-- ARGV: epoch, generation, position, ms that it lives, message whose reactions are wanted or '', token of the lease,
--       the snapshot's horizon (16 hex digits), the snapshot (see install_core)
-- Returns 'closed' | 'late', also if it changed since | 'taken' | 'done', the counts of each message (see install_core)
-- Bound: 9 keys, 480 KiB, uncapped: reactions to a message

local refused = refusal(1, 1)
if refused then return { refused } end
local wanted = ARGV[5] ~= '' and redis.call('HGET', KEYS[6], '@') ~= ARGV[1] and ARGV[5]
-- What is there needs no lease any more: nobody is to wait until it lapses.
if ARGV[5] ~= '' and not wanted and redis.call('GET', KEYS[8]) == ARGV[6] then redis.call('DEL', KEYS[8]) end
if wanted then
  local lease, floor = unpack(redis.call('MGET', KEYS[8], KEYS[9]))
  if not may_fill(lease, ARGV[6], KEYS[7], floor, ARGV[7]) then return { 'late' } end
end
local out, members = install_counts(1, 1, 8, wanted)
if wanted then
  redis.call('DEL', KEYS[6], KEYS[8])
  redis.call('HSET', KEYS[6], '@', ARGV[1])
  for member in pairs(members) do redis.call('HSET', KEYS[6], member, '') end
  redis.call('PEXPIRE', KEYS[6], ARGV[4])
end
return out
