-- The state of a key's fences, shared by the scripts that raise, respect and drop them. Not a script of its own.
--
-- A fence is a hash: a field 't:<token>' for each writer, with the time at which it lapses; 'warm' if a value was hidden;
-- 'deadline', when that value was to expire.

-- Counts the writers' fences that are up, and removes those that have lapsed.
local function fences_up(fence)
  local fields = redis.call('HGETALL', fence)
  -- Few keys have a fence: without one, the clock is not asked.
  if #fields == 0 then return 0 end
  local up, now = 0, now_ms()
  for index = 1, #fields, 2 do
    if string.sub(fields[index], 1, 2) == 't:' then
      if tonumber(fields[index + 1]) > now then up = up + 1 else redis.call('HDEL', fence, fields[index]) end
    end
  end
  return up
end

-- A key's floor: the newest transaction that the relay has told of, 16 hex digits, then 'r' if a relay that reads a replica
-- told of it or of an older one, else 'p', then how often a relay told of an older one. What a relay tells of that reads the
-- primary, every later read of the primary shows.

-- Whether a lease, as its key holds it, is the token's.
local function is_lease_of(lease, token)
  return lease and string.sub(lease, 1, 32) == token
end

-- Whether a snapshot may be stored: its lease still stands, no fence is up, and it has seen the floor's transaction. It has
-- if its horizon is beyond it, or if the floor was the same when the lease was given.
local function may_fill(lease, token, fence, floor, seen)
  if not is_lease_of(lease, token) or fences_up(fence) > 0 then return false end
  if not floor or seen > string.sub(floor, 1, 16) then return true end
  return string.sub(floor, 17, 17) == 'p' and floor == string.sub(lease, 33)
end
