-- Admission, shared by the scripts that admit in their user's slot. Not a script of its own.
--
-- Checks the secret first, and changes nothing if it is wrong; then charges all limits; then extends the session's expiry.
--
-- KEYS: session, membership, ... limits from `first_limit` on
-- ARGV: hash of the secret, ms of idleness allowed, ms between write-backs, clock ('' for Redis's own), entry, ... limits from
--       `limits_at` on (see limits_core)
-- Returns 'unknown' | 'secret'
--       | 'refused', epoch, limit, window, ms to wait, (left, ms to reset) of every window
--       | 'ok', epoch, ms to expiry, '1' to write back, membership or '', now, 'charged' | 'found', (left, ms)...

local function admit(session, membership, first_limit, limits_at)
  if not session or string.byte(session) ~= WIRE_VERSION then return { 'unknown' } end
  if string.sub(session, SECRET_HASH_FIRST, SECRET_HASH_LAST) ~= ARGV[1] then return { 'secret' } end

  local epoch = string.sub(session, EPOCH_FIRST, EPOCH_LAST)
  local limits = parse_limits(first_limit, limits_at)
  local now, outcome, limit, window, wait = charge(limits, ARGV[5], now_ms(ARGV[4]))
  if outcome == 'refused' then
    local out = { 'refused', epoch, limit, window, wait }
    for _, each in ipairs(limits) do append_state(out, each, now) end
    return out
  end

  local left = tonumber(string.sub(session, ABSOLUTE_UNTIL_FIRST, ABSOLUTE_UNTIL_LAST)) - now
  local life = math.min(tonumber(ARGV[2]), left)
  if life <= 0 then return { 'unknown' } end
  -- Extends by ten seconds more, at most once in ten seconds: most reads then write nothing that Redis must log.
  if redis.call('PTTL', KEYS[1]) < life then redis.call('PEXPIRE', KEYS[1], math.min(life + 10000, left)) end
  local write_back = '0'
  if now - tonumber(string.sub(session, WRITTEN_BACK_FIRST, WRITTEN_BACK_LAST)) >= tonumber(ARGV[3]) then
    redis.call('SETRANGE', KEYS[1], WRITTEN_BACK_FIRST - 1, string.format('%014d', now))
    write_back = '1'
  end

  local out = { 'ok', epoch, life, write_back, membership or '', now, outcome }
  for _, each in ipairs(limits) do append_state(out, each, now) end
  return out
end
