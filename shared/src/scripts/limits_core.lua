-- The limiter, shared by every script that admits. Not a script of its own.
--
-- A limit is a key and, in ARGV, its kind ('w' sliding windows, 'c' counter), its number of windows, and for each window
-- how many it admits and its length in ms. A sliding limit is a sorted set of the newest admitted entries, scored by time.
-- An entry that a retry has found ends in '!', and can no longer be given back. Entries that have left every window stay until the
-- next charge, and count for nothing: a retry does not find them.

-- Reads the limits' description from ARGV[at...]; the first limit's key is KEYS[first_key].
local function parse_limits(first_key, at)
  local limits = {}
  local count = tonumber(ARGV[at])
  at = at + 1
  for index = 1, count do
    local limit = { key = KEYS[first_key + index - 1], kind = ARGV[at], windows = {}, longest = 0 }
    local windows = tonumber(ARGV[at + 1])
    at = at + 2
    for w = 1, windows do
      local length = tonumber(ARGV[at + 1])
      limit.windows[w] = { admitted = tonumber(ARGV[at]), length = length }
      if length > limit.longest then limit.longest = length end
      at = at + 2
    end
    limits[index] = limit
  end
  return limits
end

-- Now, but never before the newest entry: a clock that jumps back admits nothing too early.
local function not_before_newest(limits, now)
  for _, limit in ipairs(limits) do
    if limit.kind == 'w' then
      local newest = redis.call('ZREVRANGE', limit.key, 0, 0, 'WITHSCORES')
      if newest[2] and tonumber(newest[2]) > now then now = tonumber(newest[2]) end
    end
  end
  return now
end

-- Counts one attempt, in one command. The first one starts the window.
local function count_up(limit)
  limit.used = redis.call('INCR', limit.key)
  if limit.used == 1 then
    redis.call('PEXPIRE', limit.key, limit.longest)
    limit.reset = limit.longest
  else
    limit.reset = math.max(redis.call('PTTL', limit.key), 0)
  end
  return limit.used <= limit.windows[1].admitted
end

-- Undoes the counts made before another limit refused.
local function count_down(limits)
  for _, limit in ipairs(limits) do
    if limit.used then limit.used = redis.call('DECR', limit.key) end
  end
end

-- Appends, for each window of a limit, what is left and ms until more is.
local function append_state(out, limit, now)
  if limit.kind == 'c' then
    local used = limit.used or tonumber(redis.call('GET', limit.key) or 0)
    local reset = limit.reset or math.max(redis.call('PTTL', limit.key), 0)
    out[#out + 1] = math.max(limit.windows[1].admitted - used, 0)
    out[#out + 1] = reset
    return
  end
  for _, window in ipairs(limit.windows) do
    local used = redis.call('ZCOUNT', limit.key, '(' .. (now - window.length), '+inf')
    local reset = 0
    if used > 0 then
      local oldest = redis.call('ZREVRANGE', limit.key, used - 1, used - 1, 'WITHSCORES')
      reset = tonumber(oldest[2]) + window.length - now
    end
    out[#out + 1] = math.max(window.admitted - used, 0)
    out[#out + 1] = reset
  end
end

-- The time of an entry, if it is in a window still.
local function time_of(limit, entry, now)
  local time = redis.call('ZSCORE', limit.key, entry)
  return time and tonumber(time) > now - limit.longest and time
end

-- Returns the full window that refuses a sliding limit's next entry, and ms to wait; nothing if it is admitted. Notes
-- whether a retry has found its entry.
local function slide(limit, entry, now)
  local known = time_of(limit, entry, now)
  if known then
    redis.call('ZREM', limit.key, entry)
    redis.call('ZADD', limit.key, known, entry .. '!')
    limit.found = true
  elseif time_of(limit, entry .. '!', now) then
    limit.found = true
  else
    for w, window in ipairs(limit.windows) do
      local nth = redis.call('ZREVRANGE', limit.key, window.admitted - 1, window.admitted - 1, 'WITHSCORES')
      if nth[2] and tonumber(nth[2]) > now - window.length then
        return w, tonumber(nth[2]) + window.length - now
      end
    end
  end
end

-- Checks every window of every limit, and charges all or none.
-- Returns now, and 'charged' or 'found', or 'refused', limit, window, ms to wait.
local function charge(limits, entry, now)
  now = not_before_newest(limits, now)
  for index, limit in ipairs(limits) do
    local window, wait
    if limit.kind == 'c' then
      if not count_up(limit) then window, wait = 1, limit.reset end
    else
      window, wait = slide(limit, entry, now)
    end
    if window then
      count_down(limits)
      return now, 'refused', index, window, wait
    end
  end
  local outcome = 'charged'
  for _, limit in ipairs(limits) do
    if limit.found then
      outcome = 'found'
    elseif limit.kind == 'w' then
      redis.call('ZADD', limit.key, now, entry)
      redis.call('ZREMRANGEBYSCORE', limit.key, '-inf', now - limit.longest)
      redis.call('PEXPIRE', limit.key, limit.longest)
    end
  end
  return now, outcome
end
