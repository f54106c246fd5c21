-- Installs messages' counts, of a snapshot of Postgres plus the unflushed entries, shared by the scripts that install. Not a
-- script of its own.
--
-- The snapshot includes the partition's generation and position. If the stream was trimmed past that position, the
-- snapshot lacks those entries, and nothing is installed.
--
-- KEYS from `k`: vouch, ledger, stream, counts, their page
-- ARGV from `a`: epoch, generation, position, ms that the counts live; from `at`: the snapshot (see writes_core)

-- Whether the snapshot cannot be installed: 'closed', another epoch or generation; or 'late', flushed since, read again.
local function refusal(k, a)
  local ledger = redis.call('HMGET', KEYS[k + 1], 'epoch', 'generation', 'trimmed')
  if vouched(KEYS[k]) ~= ARGV[a] or ledger[1] ~= ARGV[a] or ledger[2] ~= ARGV[a + 1] then return 'closed' end
  return ledger[3] > padded(ARGV[a + 2]) and 'late'
end

-- Installs the counts that Redis lacks. With a `wanted` message it also returns everyone who reacted to that one.
-- Returns 'taken': Redis has the snapshot's counts now | 'done', the counts of each message that it has now
local function install_counts(k, a, at, wanted)
  local epoch, position, lives = ARGV[a], ARGV[a + 2], ARGV[a + 3]
  local stream, counts_key, page = KEYS[k + 2], KEYS[k + 3], KEYS[k + 4]
  local number, has_some = tonumber(ARGV[at]), redis.call('EXISTS', counts_key) == 1
  local entries = not has_some and unflushed(stream, position)
  -- Most often nothing is there and nothing waits: the snapshot's own texts are stored, without a table of them.
  if not has_some and not wanted and #entries == 0 then
    for index = at + 2, at + number * 2, 2 do ARGV[index] = epoch .. ARGV[index] end
    if number > 0 then
      redis.call('HSET', counts_key, unpack(ARGV, at + 1, at + number * 2))
      redis.call('DEL', page)
      redis.call('PEXPIRE', counts_key, lives)
    end
    return { 'taken' }
  end

  local messages, counts, members = parse_snapshot(at)
  local known, lacks = has_some and number > 0 and redis.call('HMGET', counts_key, unpack(messages)) or {}, wanted
  for index = 1, number do
    if not known[index] or string.sub(known[index], 1, 16) ~= epoch then
      known[index], lacks = false, true
    end
  end
  -- Reads the stream only if something is missing.
  if lacks then add_unflushed(entries or unflushed(stream, position), counts, wanted, members) end
  local out, new = { 'done' }, {}
  for index, message in ipairs(messages) do
    local count = known[index]
    if not count then
      count = counts[message]
      count = epoch .. (type(count) == 'table' and table.concat(count, ',') or count)
      new[#new + 1] = message
      new[#new + 1] = count
    end
    out[index + 1] = string.sub(count, 17)
  end
  if #new > 0 then
    redis.call('HSET', counts_key, unpack(new))
    redis.call('DEL', page)
  end
  redis.call('PEXPIRE', counts_key, lives, 'NX')
  return out, members
end
