-- The state of a key's fences, shared by the scripts that raise, respect and drop them. Not a script of its own.
--
-- A fence is a hash: a field 't:<token>' for each writer, with the time at which it lapses; 'warm' if a value was hidden;
-- 'deadline', when that value was to expire.

-- Counts the writers' fences that are up, and removes those that have lapsed.
local function fences_up(fence, now)
  local up = 0
  local fields = redis.call('HGETALL', fence)
  for index = 1, #fields, 2 do
    if string.sub(fields[index], 1, 2) == 't:' then
      if tonumber(fields[index + 1]) > now then up = up + 1 else redis.call('HDEL', fence, fields[index]) end
    end
  end
  return up
end

-- Whether a snapshot may be stored: its lease still stands, no fence is up, and it has seen the floor's transaction.
local function may_fill(lease_key, token, fence, floor_key, seen)
  if redis.call('GET', lease_key) ~= token or fences_up(fence, now_ms()) > 0 then return false end
  local floor = redis.call('GET', floor_key)
  return not floor or seen > floor
end
