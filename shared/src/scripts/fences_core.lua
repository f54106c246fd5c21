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

-- Whether a lease still stands, and the snapshot has seen every transaction noted in it.
local function lease_stands(lease_key, token, seen)
  local lease = redis.call('GET', lease_key)
  return lease and string.sub(lease, 1, 32) == token and seen > string.sub(lease, 33)
end
