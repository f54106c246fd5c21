-- Drafts, shared by their scripts. Not a script of its own.
--
-- A draft is a hash: 'epoch', 'version', 'base', 'sealed', 'saved_at' (ms), 'sibling_of', 'flushed' ('1' once all of it
-- is in Postgres). Versions grow, compared as texts.
--
-- The sizes of a person's drafts, wherever those are, are a hash: '@', the epoch that they were counted under; '+', their
-- sum in bytes; for each draft, its bytes. It lives for an hour and is then counted anew.

-- Notes the size of a draft, 0 if it is gone. Unless the sizes are those of an epoch, they are to be counted anyway.
local function resize(sizes_key, epoch, draft, size)
  local known = redis.call('HMGET', sizes_key, '@', draft)
  if not epoch or known[1] ~= epoch then return end
  redis.call('HINCRBY', sizes_key, '+', size - (known[2] or 0))
  if size == 0 then redis.call('HDEL', sizes_key, draft) else redis.call('HSET', sizes_key, draft, size) end
end
