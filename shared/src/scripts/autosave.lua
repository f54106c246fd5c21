-- Saves a draft if it is based on the version in Redis.
--
-- A draft is a hash: 'epoch', 'version', 'base', 'sealed', 'saved_at' (ms), 'sibling_of', 'flushed' ('1' once all of it
-- is in Postgres). Versions grow, compared as texts.
--
-- KEYS: vouch, draft, dirty drafts
-- ARGV: base version, '' to create it; version; sealed; saved at; sibling of, or ''; <user>:<draft>
-- Returns 'closed', '': nobody vouches | 'absent', '': Redis does not have it, or has it of another epoch
--       | 'conflict', the version in Redis | 'saved', ''

local epoch = vouched(KEYS[1])
if not epoch then return { 'closed', '' } end
local known = redis.call('HMGET', KEYS[2], 'epoch', 'version')
if known[2] and known[1] ~= epoch then return { 'absent', '' } end
if not known[2] and ARGV[1] ~= '' then return { 'absent', '' } end
if (known[2] or '') ~= ARGV[1] then return { 'conflict', known[2] or '' } end
redis.call('HSET', KEYS[2], 'epoch', epoch, 'version', ARGV[2], 'base', ARGV[1], 'sealed', ARGV[3], 'saved_at', ARGV[4],
  'sibling_of', ARGV[5], 'flushed', '0')
redis.call('PERSIST', KEYS[2])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[6])
return { 'saved', '' }
