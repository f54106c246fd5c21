-- Admits a reaction and makes it, where one Redis holds the slots of user and circle. It reacts only if the edge would ask for
-- that next: if the session is of the vouched epoch, and copies that count say that the caller is a member of a circle that is
-- not archived. It leaves the rest to the edge, charged.
--
-- An attempt that the limits know already is one that the edge has given up, and the origin has made since: it comes late, and must
-- not undo what the caller did next.
--
-- KEYS: session, membership, vouch, access, ledger, stream, reactions, counts, their page, limits...
-- ARGV: the first five as in admit_core, the edge's clock, as react_core, limits
-- Returns what admit_core returns, and after 'ok' also: outcome and counts of react_core, or 'doubted' and ''; vouch, access.
--         The last two and the membership are '' if the reaction is made.
-- Bound: 10 keys, 2 KiB

local found = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
local out = admit(found[1], found[2], 10, 13)
if out[1] ~= 'ok' then return out end

local vouch, access = found[3], found[4]

local function may_write(epoch, degraded)
  if not epoch or out[7] ~= 'charged' or not is_of(epoch, found[1]) then return false end
  local now = tonumber(ARGV[6])
  local role = text_of(found[2], epoch, degraded, now)
  if role ~= 'member' and role ~= 'moderator' and role ~= 'owner' then return false end
  local to = text_of(access, epoch, degraded, now)
  return to == 'public' or to == 'private'
end

local epoch, degraded = parse_vouch(vouch)
local outcome, counts = 'doubted', ''
if may_write(epoch, degraded) then outcome, counts = react(epoch, 5, 7) end
local is_made = outcome == 'done' or outcome == 'same'
if is_made then out[5] = '' end
out[#out + 1] = outcome
out[#out + 1] = counts
out[#out + 1] = not is_made and vouch or ''
out[#out + 1] = not is_made and access or ''
return out
