-- Presence, shared by its scripts. Not a script of its own.
--
-- A person's presence is a hash: for each device, 'd:<device>', '<ms at which its lease ends> <state>'; 'shown', what the
-- person's circles have been told, '<ms of telling> <state or offline>', or '0 renew' if they are to be told anew.

-- The strongest counts.
local STRENGTH = { away = 1, online = 2, busy = 3, invisible = 4 }

-- Drops devices whose lease is over. Returns the person's state ('offline' without a device), what others see, the ms at which
-- the first lease ends, the number of devices, and the device whose lease ends first.
local function presence(key, now)
  local state, first_end, devices, first = 'offline', nil, 0, nil
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local till, said = string.match(all[at + 1], '^(%d+) (%a+)$')
    if string.sub(all[at], 1, 2) == 'd:' then
      till = tonumber(till or 0)
      if till <= now or not STRENGTH[said] then
        redis.call('HDEL', key, all[at])
      else
        devices = devices + 1
        if not first_end or till < first_end then first_end, first = till, all[at] end
        if (STRENGTH[state] or 0) < STRENGTH[said] then state = said end
      end
    end
  end
  return state, state == 'invisible' and 'offline' or state, first_end, devices, first
end

-- What the person's circles have been told, and when.
local function shown_before(key)
  local at, state = string.match(redis.call('HGET', key, 'shown') or '', '^(%d+) (%a+)$')
  return state or 'offline', tonumber(at or 0)
end

-- When the person's circles are to be told next, in ms.
local function due_at(now, told, told_at, shown, first_end, renewal)
  if told ~= shown then return now end
  if shown == 'offline' then return first_end end
  return math.min(first_end, told_at + renewal)
end
