-- Everything that happens to an order once it is paid: it is led on, or goes back.
-- What a step makes of an order stands in order.rs, which has looked at it before
-- (order_look.lua): here it is decided whether that is still so.
--
-- KEYS[3]  the bucket's outbox
-- KEYS[4]  to KEYS[9]: see holds.lua
-- KEYS[10] the bucket's orders: hold, when it was paid, merchant, and behind that what
--          has become of it since, if anything has
-- ARGV[4]  'step', 'return', 'returned' or 'short'
-- ARGV[5]  the order
-- step:     ARGV[6] what has become of it afterwards; ARGV[7] its row as it was seen;
--           ARGV[8] until when the step is in time, or ''
-- return:   ARGV[6] how it goes back; ARGV[7], ARGV[8] as above
-- returned: ARGV[6] what has become of it afterwards, ARGV[7] the attempt; ARGV[8] how
--           long the mark of the operation that began it is kept, or '-'; ARGV[9] '1'
--           if its units are on sale again
-- short:    ARGV[7], ARGV[8] as above
--
-- While an order goes back, that stands in the outbox with the order as it is to be:
-- its merchant's money is taken first, and nothing else happens to it meanwhile.

local ORDERS = KEYS[10]
local id = ARGV[5]
local row = redis.call('HGET', ORDERS, id)

-- Whether the order goes back by this attempt.
local function goes_back_by(attempt)
  local going = redis.call('HGET', KEYS[3], 'o' .. id)
  local begins = going and string.match(going, '^%d+ o %d+ %S+ ().')
  return begins and string.sub(going, begins, begins + 15) == attempt
end

-- Writes what has become of the order, and tells it.
local function write_order(hold, progress)
  local at, merchant = string.match(string.sub(row, 17), '^(%d+) (%S+)')
  redis.call('HSET', ORDERS, id, string.sub(row, 1, 16) .. at .. ' ' .. merchant .. ' ' .. progress)
  local order = table.concat({at, int(hold.quantity), int(hold.amount), merchant, hold.user, id .. hold.id .. hold.item ..
    progress}, ' ')
  tell('O', int(now) .. ' ' .. order)
  return {'order', order}
end

if ARGV[4] == 'step' or ARGV[4] == 'return' then
  local going = waiting('o' .. id)
  if going[1] then
    return {'new', int(now), {'no', 'unresolved'}, going}
  end
  -- A merchant that is not owed yet has nothing to give back.
  local is_early = ARGV[4] == 'return' and waiting('m' .. id)[1]
  local is_late = ARGV[8] ~= '' and now >= tonumber(ARGV[8])
  if row ~= ARGV[7] or is_early or is_late then
    return no('changed')
  end
  if ARGV[4] == 'return' then
    return decided({'paying'}, {'o' .. id, int(now) .. ' o ' .. ARGV[6]})
  end
  return decided(write_order(read(string.sub(row, 1, 16)), ARGV[6]))
end

if not goes_back_by(ARGV[7]) then
  return no('changed')
end

if ARGV[4] == 'short' then
  redis.call('HDEL', KEYS[3], 'o' .. id)
  if ARGV[8] ~= '-' then
    -- A call of it that was sent twice and arrives late begins nothing after this no.
    make_void(KEYS[2], ARGV[8])
  end
  return {'new', int(now), {'done'}, {}}
end

-- A look at all that is written, before anything is.
local hold = read(string.sub(row, 1, 16))
local held, sold, ids = read_part(redis.call('HGET', USERS, hold.user))
redis.call('HGET', ITEM, 'sold')

local back = {'u' .. id, int(now) .. ' u ' .. int(hold.amount) .. ' ' .. hold.user}
redis.call('HSET', KEYS[3], unpack(back))
redis.call('HDEL', KEYS[3], 'o' .. id)
if ARGV[9] == '1' then
  sold = sold - hold.quantity
  if held == 0 and sold == 0 then
    redis.call('HDEL', USERS, hold.user)
  else
    redis.call('HSET', USERS, hold.user, packed_part(held, sold, ids))
  end
  redis.call('HINCRBY', ITEM, 'sold', int(-hold.quantity))
end
local answer = write_order(hold, ARGV[6])
if ARGV[8] ~= '-' then
  remember(KEYS[2], ARGV[8], int(now), answer, {back[1]})
end
return {'new', int(now), answer, back}
