-- Records that a user visits a circle.
--
-- KEYS: vouch, ledger, stream   ARGV: user, circle, entries that the stream may hold
-- Returns 'closed': the partition takes no writes of this epoch | 'full' | 'done'
-- Bound: 3 keys, 1 KiB

local epoch = vouched(KEYS[1])
if not epoch or redis.call('HGET', KEYS[2], 'epoch') ~= epoch then return { 'closed' } end
if redis.call('XLEN', KEYS[3]) >= tonumber(ARGV[3]) then return { 'full' } end
redis.call('XADD', KEYS[3], '*', 'visit', ARGV[1] .. ' ' .. ARGV[2])
return { 'done' }
