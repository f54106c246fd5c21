-- Moves a member's read marker, as an entry in the stream of its circle's partition. Markers only grow: the entries of one are
-- applied in any order, and more than once.
--
-- The marker ahead of Postgres is '<epoch>-<generation> <number>': the ledger under which its entry was appended. Of another it says
-- nothing.
--
-- KEYS: vouch, ledger, stream, the circle's head, the marker ahead of Postgres
-- ARGV: user, circle, number, entries that the stream may hold, ms that the marker lives
-- Returns 'closed': the partition takes no writes of this epoch | 'full' | 'unknown': no head shows a message of this number | 'done'
-- Bound: 5 keys, 1 KiB

local epoch = vouched(KEYS[1])
local ledger = redis.call('HMGET', KEYS[2], 'epoch', 'generation')
if not epoch or ledger[1] ~= epoch then return { 'closed' } end

local number = tonumber(ARGV[3])
local head = redis.call('GETRANGE', KEYS[4], 0, KIND + 22)
if string.byte(head) ~= WIRE_VERSION or string.sub(head, EPOCH_FIRST, EPOCH_LAST) ~= epoch then return { 'unknown' } end
-- Its version, after two bytes of length, is the newest message's number.
local newest = string.match(head, '^%d+', KIND + 3)
if not newest or number > tonumber(newest) then return { 'unknown' } end

local under = epoch .. '-' .. ledger[2]
local known, at = string.match(redis.call('GET', KEYS[5]) or '', '^(%S+) (%d+)$')
if known == under and tonumber(at) >= number then return { 'done' } end
if redis.call('XLEN', KEYS[3]) >= tonumber(ARGV[4]) then return { 'full' } end
redis.call('XADD', KEYS[3], '*', 'read', ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
redis.call('SET', KEYS[5], under .. ' ' .. ARGV[3], 'PX', ARGV[5])
return { 'done' }
