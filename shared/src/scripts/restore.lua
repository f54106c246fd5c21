-- Reconciles a draft in Redis with its row in Postgres: the newer of the two stays.
--
-- KEYS: vouch, draft, dirty drafts, sizes
-- ARGV: epoch, state of the row ('row' | 'gone' | 'none'), version, sealed, saved at, sibling of, newest version that the
--       row builds on and Postgres may never have seen, <user>:<draft>, ms that a flushed draft lives,
--       version that was kept elsewhere and may be dropped, draft
-- Returns 'closed' | 'restored' | 'none' | 'gone' | 'kept': Redis is ahead
--       | 'fork', version, sealed, saved at: each has text that the other lacks
-- Bound: 4 keys, 608 KiB

if ARGV[2] ~= 'gone' and vouched(KEYS[1]) ~= ARGV[1] then return { 'closed' } end
local known = redis.call('HMGET', KEYS[2], 'version', 'flushed', 'sealed', 'saved_at')
local version = known[1]
local function keep()
  redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'flushed', '0')
  redis.call('PERSIST', KEYS[2])
  redis.call('ZADD', KEYS[3], known[4], ARGV[8])
  return { 'kept' }
end
if ARGV[2] == 'none' then return version and keep() or { 'none' } end
if version and version ~= ARGV[10] then
  if ARGV[2] == 'row' and version > ARGV[3] then return keep() end
  local is_older = version <= ARGV[3] and (version == ARGV[3] or known[2] == '1' or version <= ARGV[7])
  if ARGV[2] == 'gone' then is_older = version <= ARGV[3] end
  if not is_older then return { 'fork', version, known[3], known[4] } end
end
redis.call('ZREM', KEYS[3], ARGV[8])
redis.call('DEL', KEYS[2])
if ARGV[2] == 'gone' then
  resize(KEYS[4], redis.call('HGET', KEYS[4], '@'), ARGV[11], 0)
  return { 'gone' }
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'version', ARGV[3], 'base', '', 'sealed', ARGV[4], 'saved_at', ARGV[5],
  'sibling_of', ARGV[6], 'flushed', '1')
redis.call('PEXPIRE', KEYS[2], ARGV[9])
return { 'restored' }
