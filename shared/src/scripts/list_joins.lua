-- Lists who asks to join a circle, the longest first, from behind a place in that order.
--
-- KEYS: when who asked, what they wrote   ARGV: ms that a request lasts, how many there may be, how many are wanted, ms and user of the place
-- Returns of each the user, the ms at which they asked, and what they wrote
-- Bound: 2 keys, 160 KiB

local oldest = now_ms('') - ARGV[1] + 1
local from = math.max(oldest, tonumber(ARGV[4]))
local all = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', from), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local out, users = {}, {}
for at = 1, #all, 2 do
  if #users == tonumber(ARGV[3]) then break end
  if tonumber(all[at + 1]) > tonumber(ARGV[4]) or all[at] > ARGV[5] then
    users[#users + 1] = all[at]
    out[#out + 1] = all[at]
    out[#out + 1] = all[at + 1]
    out[#out + 1] = ''
  end
end
if #users == 0 then return out end
for place, text in ipairs(redis.call('HMGET', KEYS[2], unpack(users))) do out[place * 3] = text or '' end
return out
