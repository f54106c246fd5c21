-- The offsets of an envelope's parts, as `shared/src/envelope.rs` encodes them; a test compares the two. Bytes count from
-- 1; a part has a first and a last one. Not a script of its own. Numbers only: they cost a script next to nothing.

local WIRE_VERSION = 1
local EPOCH_FIRST, EPOCH_LAST = 2, 17
local FRESH_UNTIL_FIRST, FRESH_UNTIL_LAST = 18, 31
local SEEN_FIRST, SEEN_LAST = 46, 61
local KIND = 62

-- A list with an index: this kind ('i'), how many items, and their ids.
local INDEXED_LIST = 105
local ITEM_COUNT = 63
local ITEM_IDS, ID_LENGTH = 64, 36

-- A session.
local SECRET_HASH_FIRST, SECRET_HASH_LAST = 63, 126
local WRITTEN_BACK_FIRST, WRITTEN_BACK_LAST = 127, 140
local ABSOLUTE_UNTIL_FIRST, ABSOLUTE_UNTIL_LAST = 141, 154
