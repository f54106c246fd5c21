-- Saves a draft if it is based on the version in Redis, and does not make its person's drafts too large.
--
-- KEYS: vouch, draft, dirty drafts, sizes
-- ARGV: base version, '' to create it; version; sealed; saved at; sibling of, or ''; <user>:<draft>; draft;
--       bytes that it counts; bytes that the person's drafts may have, '' if they cannot be counted
-- Returns 'closed', '': nobody vouches | 'absent', '': Redis does not have it, or has it of another epoch
--       | 'conflict', the version in Redis | 'uncounted', '': the sizes are to be counted first
--       | 'full', '': too many bytes; a draft may always become smaller | 'saved', ''
-- Bound: 4 keys, 304 KiB

local epoch = vouched(KEYS[1])
if not epoch then return { 'closed', '' } end
local known = redis.call('HMGET', KEYS[2], 'epoch', 'version')
if known[2] and known[1] ~= epoch then return { 'absent', '' } end
if not known[2] and ARGV[1] ~= '' then return { 'absent', '' } end
if (known[2] or '') ~= ARGV[1] then return { 'conflict', known[2] or '' } end
if ARGV[9] ~= '' then
  local sizes = redis.call('HMGET', KEYS[4], '@', '+', ARGV[7])
  if sizes[1] ~= epoch then return { 'uncounted', '' } end
  local grown = ARGV[8] - (sizes[3] or 0)
  if grown > 0 and sizes[2] + grown > tonumber(ARGV[9]) then return { 'full', '' } end
end
resize(KEYS[4], epoch, ARGV[7], tonumber(ARGV[8]))
redis.call('HSET', KEYS[2], 'epoch', epoch, 'version', ARGV[2], 'base', ARGV[1], 'sealed', ARGV[3], 'saved_at', ARGV[4],
  'sibling_of', ARGV[5], 'flushed', '0')
redis.call('PERSIST', KEYS[2])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[6])
return { 'saved', '' }
