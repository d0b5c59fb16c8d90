-- Everything that happens to gifts: one is made, paid, led on, or comes to nothing.
-- What a step makes of a gift stands in gift.rs, which has looked at it before
-- (gift_look.lua): here it is decided whether that is still so.
--
-- KEYS[3]  the bucket's outbox
-- KEYS[4]  to KEYS[9]: see holds.lua
-- KEYS[10] see gifts.lua
-- KEYS[11] the bucket's gifts, each with its state, its deadline or 0, and its giver before it
-- KEYS[12] merchants that have been kept from selling
-- ARGV[4]  'give', 'step', 'pay', 'paid' or 'unpaid'
-- ARGV[5]  the gift
-- give:    ARGV[6] the gift as it is made; ARGV[7] the price that was seen; ARGV[8] its giver;
--          ARGV[9] how it is to be paid at once, or ''; ARGV[10] the item; ARGV[11..] effects:
--          fields and values
-- step:    ARGV[6] the gift afterwards; ARGV[7] as it was seen, ARGV[8] and when;
--          ARGV[9] how much more money is its own afterwards; ARGV[10..] effects
-- pay:     ARGV[6] how it is to be paid; ARGV[7], ARGV[8] as above
-- paid:    ARGV[6] the gift afterwards, ARGV[7] the attempt; ARGV[8] the amount; ARGV[9] how long
--          the mark of the operation that began it is kept, or '-'; ARGV[10..] effects
-- unpaid:  ARGV[6] the giver, ARGV[7] the attempt, ARGV[9] the same
--
-- While a gift is being paid its payment stands in the outbox, with the gift as it
-- is to be: a new one is nowhere else, but for its unit. So whoever carries the
-- payment on knows all that is needed, and nothing else happens to the gift meanwhile.

-- Due holds that a new gift ends besides its giver's.
local END_WITH_GIFT = 64
local HOLDS_UNIT = {w = true, o = true}
local HAS_SOLD = {a = true, s = true, d = true}

local id = ARGV[5]

local function read_gift(packed)
  local state, deadline, giver, gift = string.match(packed, '^(%a) (%d+) (%S+) (.*)$')
  return {state = state, deadline = tonumber(deadline), giver = giver, gift = gift}
end

-- A giver has so many units more, or fewer, as the item has.
local function move_units(giver, more_held, more_sold)
  if more_held == 0 and more_sold == 0 then
    return
  end
  redis.call('HINCRBY', ITEM, 'held', int(more_held))
  redis.call('HINCRBY', ITEM, 'sold', int(more_sold))
  local held, sold, ids = read_part(redis.call('HGET', USERS, giver))
  held, sold = held + more_held, sold + more_sold
  if held == 0 and sold == 0 then
    redis.call('HDEL', USERS, giver)
  else
    redis.call('HSET', USERS, giver, packed_part(held, sold, ids))
  end
end

-- Looks at every key that is written below, so that a damaged one fails before the
-- first write.
local function look_at_all(giver)
  redis.call('ZCARD', GIFTS)
  redis.call('ZCARD', DUE)
  redis.call('HEXISTS', KEYS[11], id)
  return read_part(redis.call('HGET', USERS, giver))
end

local function has(places, state)
  return places[state] and 1 or 0
end

-- Writes a gift that was in another state, or whose unit was nobody's ('').
local function write_gift(was, packed)
  local is = read_gift(packed)
  redis.call('HSET', KEYS[11], id, packed)
  move_units(is.giver, has(HOLDS_UNIT, is.state) - has(HOLDS_UNIT, was), has(HAS_SOLD, is.state) - has(HAS_SOLD, was))
  if HOLDS_UNIT[is.state] then
    redis.call('ZADD', GIFTS, int(is.deadline), id .. is.giver)
  else
    redis.call('ZREM', GIFTS, id .. is.giver)
  end
  if is.deadline > 0 then
    redis.call('ZADD', DUE, int(is.deadline), 'g' .. id)
  else
    redis.call('ZREM', DUE, 'g' .. id)
  end
  tell('G', int(now) .. ' ' .. is.gift)
  return is.gift
end

-- A no that means nothing once these effects have been carried.
local function unresolved(effects)
  return {'new', int(now), {'no', 'unresolved'}, effects}
end

local function begin_payment(payment)
  return decided({'paying'}, {'q' .. id, int(now) .. ' q ' .. payment})
end

-- Whether the gift is being paid by this attempt.
local function is_paid_by(attempt)
  local payment = redis.call('HGET', KEYS[3], 'q' .. id)
  local begins = payment and string.match(payment, '^%d+ q %d+ %S+ ().')
  return begins and string.sub(payment, begins, begins + 15) == attempt
end

local payment = waiting('q' .. id)

if ARGV[4] == 'step' or ARGV[4] == 'pay' then
  if payment[1] then
    return unresolved(payment)
  end
  local seen = ARGV[7]
  if redis.call('HGET', KEYS[11], id) ~= seen then
    return no('changed')
  end
  local was = read_gift(seen)
  local is_due, was_due = now >= was.deadline, tonumber(ARGV[8]) >= was.deadline
  if was.deadline > 0 and is_due ~= was_due then
    return no('changed')
  end
  if ARGV[4] == 'pay' then
    return begin_payment(ARGV[6])
  end
  local state = read_gift(ARGV[6]).state
  local row = HAS_SOLD[state] and not HAS_SOLD[was.state] and redis.call('HMGET', ITEM, 'codes', 'sold')
  local place = row and row[1] == '1' and row[2]
  if place and state == 'a' then
    -- A code needs nobody to ship it.
    return no('code')
  end
  look_at_all(was.giver)
  local gift = write_gift(was.state, ARGV[6])
  if place then
    redis.call('HSET', ITEM, '#' .. id, place)
  end
  move('escrowed', tonumber(ARGV[9]))
  move('transit', -tonumber(ARGV[9]))
  return decided({'gift', gift}, {unpack(ARGV, 10)})
end

if ARGV[4] == 'paid' then
  if not is_paid_by(ARGV[7]) then
    return no('changed')
  end
  look_at_all(read_gift(ARGV[6]).giver)
  local fields = {}
  for i = 10, #ARGV, 2 do
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    fields[#fields + 1] = ARGV[i]
  end
  -- Its unit is set aside, whether the gift has stood there or is new.
  local gift = write_gift('w', ARGV[6])
  redis.call('HDEL', KEYS[3], 'q' .. id)
  move('transit', -tonumber(ARGV[8]))
  move('escrowed', tonumber(ARGV[8]))
  if ARGV[9] ~= '-' then
    remember(KEYS[2], ARGV[9], int(now), {'gift', gift}, fields)
  end
  return {'new', int(now), {'gift', gift}, {unpack(ARGV, 10)}}
end

if ARGV[4] == 'unpaid' then
  if not is_paid_by(ARGV[7]) then
    return no('changed')
  end
  if redis.call('HEXISTS', KEYS[11], id) == 0 then
    -- It was to be made with its payment.
    look_at_all(ARGV[6])
    move_units(ARGV[6], -1, 0)
    redis.call('ZREM', GIFTS, id .. ARGV[6])
  end
  redis.call('HDEL', KEYS[3], 'q' .. id)
  if ARGV[9] ~= '-' then
    -- A call of it that was sent twice and arrives late makes no gift after this no.
    make_void(KEYS[2], ARGV[9])
  end
  return {'new', int(now), {'done'}, {}}
end

-- A new one. The guards stand in the order of those of holds.
local giver = ARGV[8]
local row = redis.call('HMGET', ITEM, 'total', 'held', 'sold', 'price', 'limit', 'starts', 'ends', 'merchant')
if not row[1] then
  return no('not_found')
end
if row[4] ~= ARGV[7] then
  return no('changed')
end
local standing = redis.call('HGET', KEYS[12], row[8])
local refused = standing and string.match(standing, '^%d+ (.*)$')
if refused and refused ~= 'verified' then
  return no('merchant', refused)
end
if row[7] ~= '' and now >= tonumber(row[7]) then
  return no('ended')
end
if row[6] ~= '' and now < tonumber(row[6]) then
  return no('not_open', row[6])
end
local late = redis.call('ZRANGEBYSCORE', PAYING, '-inf', int(now), 'LIMIT', 0, 1)
if late[1] then
  return unresolved(waiting('p' .. read(late[1]).order))
end
local _, _, live = look_at_all(giver)
local free = tonumber(row[1]) - tonumber(row[2]) - tonumber(row[3])
local due = redis.call('ZRANGEBYSCORE', LIVE, '-inf', int(now), 'LIMIT', 0, END_WITH_GIFT)
if #due > 0 then
  local function end_due(hold)
    if hold.state == 'h' and hold.expires <= now then
      finish(hold, 'e', now)
      free = free + hold.quantity
    end
  end
  -- The giver's own count against the limit.
  for i = 1, #live, 16 do
    end_due(read(string.sub(live, i, i + 15)))
  end
  for _, hold in ipairs(due) do
    end_due(read(hold))
  end
  arm(ARGV[10])
end
local held, sold, ids = read_part(redis.call('HGET', USERS, giver))
local limit = row[5] ~= '' and tonumber(row[5]) or 4294967295
local over = held + sold + 1 - limit
local refusal = over > 0 and 'limit_reached' or free < 1 and 'sold_out'
if refusal then
  local may_be = over <= 0 or holds_for_gifts(held, ids, read)
  local others = may_be and gifts_in_the_way(now, over > 0 and giver or nil, math.max(over, 1)) or {}
  if others[1] then
    return no('gifts', unpack(others))
  end
  return no(refusal)
end
if ARGV[9] == '' then
  return decided({'gift', write_gift('', ARGV[6])}, {unpack(ARGV, 11)})
end
move_units(giver, 1, 0)
redis.call('ZADD', GIFTS, 0, id .. giver)
return begin_payment(ARGV[9])
