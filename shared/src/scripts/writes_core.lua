-- Write-behind state, shared by the scripts that write, install and flush it. Not a script of its own.
--
-- A partition's entries stay in its stream until they are in Postgres. Its ledger is a hash: 'epoch' (16 hex digits), under
-- which it takes writes; 'generation', as Postgres knows it; 'trimmed', up to which entries are removed, padded.
--
-- A message's reactions are a hash: '@', the epoch; '<place of the kind>:<user>' for each. Its circle's counts are a hash:
-- by message, the epoch and a number for each kind, separated by commas. The counts of the list's first page are kept
-- beside it (see counts); every change of a count drops that page.

-- The vouched epoch, or nil.
local function vouched(vouch_key)
  local vouch = redis.call('GET', vouch_key)
  return vouch and string.sub(vouch, 1, 16)
end

local function parse_counts(text)
  local counts = {}
  for number in string.gmatch(text, '%d+') do counts[#counts + 1] = tonumber(number) end
  return counts
end

-- Pads a stream's id so that ids compare as texts.
local function padded(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.format('%015d-%010d', ms, seq)
end

-- Reads a snapshot from the arguments: number of messages, (message, numbers)..., number of reactions of the message that
-- is wanted whole, (place of the kind, ':', user)... Numbers stay a text until they change: parsing costs most.
local function parse_snapshot(at)
  local messages, counts, members = {}, {}, {}
  for index = 1, tonumber(ARGV[at]) do
    messages[index] = ARGV[at + index * 2 - 1]
    counts[messages[index]] = ARGV[at + index * 2]
  end
  at = at + #messages * 2 + 1
  for index = at + 1, at + tonumber(ARGV[at]) do members[ARGV[index]] = true end
  return messages, counts, members
end

-- The stream's entries after a position.
local function unflushed(stream, position)
  return redis.call('XRANGE', stream, '(' .. position, '+')
end

-- Adds entries to the counts, and to the members of the wanted message.
local function add_unflushed(entries, counts, wanted, members)
  for _, entry in ipairs(entries) do
    if entry[2][1] == 'reaction' then
      local user, message, place, on = string.match(entry[2][2], '^(%S+) %S+ (%S+) (%d+) ([01])$')
      local numbers = counts[message]
      if numbers then
        if type(numbers) == 'string' then numbers = parse_counts(numbers) end
        counts[message] = numbers
        place = tonumber(place)
        for index = #numbers + 1, place do numbers[index] = 0 end
        numbers[place] = math.max(numbers[place] + (on == '1' and 1 or -1), 0)
      end
      if message == wanted then members[place .. ':' .. user] = on == '1' or nil end
    end
  end
end
