-- Where a gift is to be sent: its text sealed with a data key of its own, and that
-- key wrapped with one that Redis never has, under a key of its own. Without that
-- nothing opens the text.
--
-- MARKS   gift -> which of its addresses it is, wrapped with what, erased when
-- SEALED  gift -> the sealed text
-- SLOT    this gift's wrapped data key
-- ERASED  'last': what was erased, replaced or taken back last in the bucket; as long as
--         it is there files of Redis may have what is not here any more

local MARKS, SEALED, SLOT, ERASED = unpack(KEYS, 13, 16)

-- Looks at every key that is written below.
local function look_at_address(id)
  redis.call('HEXISTS', MARKS, id)
  redis.call('HEXISTS', SEALED, id)
  redis.call('STRLEN', SLOT)
  redis.call('HLEN', ERASED)
end

-- What becomes of a gift's address: nothing (''), another mark ('mark'), another
-- address ('put'), or none ('erase'), of which a mark may stay. `seen` is the mark
-- as it stands, `due` when it is erased by itself, or ''.
local function change_address(id, seen, what, mark, due, sealed, slot)
  if what == '' then
    return
  end
  -- First, as it takes memory: who is refused that has erased nothing.
  if what ~= 'mark' and redis.call('EXISTS', SLOT) == 1 then
    redis.call('HSET', ERASED, 'last', id .. seen)
  end
  if mark ~= '' then
    redis.call('HSET', MARKS, id, mark)
  else
    redis.call('HDEL', MARKS, id)
  end
  if due ~= '' then
    redis.call('ZADD', DUE, due, 'a' .. id)
  else
    redis.call('ZREM', DUE, 'a' .. id)
  end
  if what == 'put' then
    redis.call('HSET', SEALED, id, sealed)
    redis.call('SET', SLOT, slot)
  elseif what == 'erase' then
    redis.call('HDEL', SEALED, id)
    redis.call('UNLINK', SLOT)
  end
end
