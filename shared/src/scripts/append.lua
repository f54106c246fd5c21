-- Appends events to a partition's stream and moves its cursor, unless the cursor has moved since the caller read it.
--
-- The cursor is a hash: 'at', the newest outbox row that is processed; 'since', from where on the stream's history is
-- whole. Positions are '<xid>-<seq>', the ids of the entries.
--
-- Entries before a position are trimmed, and the oldest beyond a number. Subscribers of the partition's channel are woken.
--
-- KEYS: stream, cursor, channel
-- ARGV: old cursor ('' if none), new cursor, entries kept, ms that both keys live, the position to trim to ('' for none),
--       then for each event: id, number of fields and values, fields and values
-- Returns 'ok', or the cursor as it is
-- Bound: 3 keys, 384 KiB

local at = redis.call('HGET', KEYS[2], 'at') or ''
if at ~= ARGV[1] then return at end
local next = 6
while ARGV[next] do
  local count = tonumber(ARGV[next + 1])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], ARGV[next], unpack(ARGV, next + 2, next + 1 + count))
  next = next + 2 + count
end
redis.call('HSET', KEYS[2], 'at', ARGV[2])
if at == '' then redis.call('HSET', KEYS[2], 'since', ARGV[2]) end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
  redis.call('HSET', KEYS[2], 'since', first[1][1])
end
-- All that this removes lies before the position, so that the history is whole from there on.
if ARGV[5] ~= '' and redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[5]) > 0 then
  redis.call('HSET', KEYS[2], 'since', ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if ARGV[6] then redis.call('SPUBLISH', KEYS[3], 'e') end
return 'ok'
