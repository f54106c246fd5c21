-- Keeps a message that somebody composes, if the person's others leave room for it. The sizes are a hash: for each circle with a
-- draft, '<ms at which it ends> <bytes that it counts>'.
--
-- KEYS: draft, sizes   ARGV: circle, text, bytes that it counts, bytes at most, ms that it is kept, wake channel, what the wake says
-- Returns 'saved' | 'full': too many bytes; a draft may always become smaller
-- Bound: 2 keys, 32 KiB

local now = now_ms('')
local sum, before = 0, 0
local all = redis.call('HGETALL', KEYS[2])
for at = 1, #all, 2 do
  local till, bytes = string.match(all[at + 1], '^(%d+) (%d+)$')
  if not till or tonumber(till) <= now then
    redis.call('HDEL', KEYS[2], all[at])
  elseif all[at] == ARGV[1] then
    before = tonumber(bytes)
  else
    sum = sum + bytes
  end
end
if tonumber(ARGV[3]) > before and sum + ARGV[3] > tonumber(ARGV[4]) then return { 'full' } end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[5])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f %s', now + ARGV[5], ARGV[3]))
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SPUBLISH', ARGV[6], ARGV[7])
return { 'saved' }
