-- Units of an item, held for a user, paid for or given back.
--
-- KEYS[4]  the item
-- KEYS[5]  its users: units held, units sold, the ids of live holds
-- KEYS[6]  its live holds by deadline
-- KEYS[7]  its holds that are being paid, by deadline
-- KEYS[8]  the bucket's holds: item, order, state and terms
-- KEYS[9]  the bucket's deadlines
-- KEYS[10] the bucket's orders
-- ARGV[4]  'grab', 'pay', 'paid', 'unpaid', 'release' or 'due'
-- ARGV[5]  the item
-- ARGV[6]  the hold
-- ARGV[7]  the user
-- grab:    ARGV[8] quantity
-- pay, paid, unpaid: ARGV[8] order; paid: ARGV[9] when it was paid
--
-- A hold that is being paid is not due, however late its payment is known: it
-- was claimed in time. Who needs its units asks for the payment to be ended first.

-- Holds ended at a time, and with a grab besides those it needs.
local END_MAX = 512
local END_WITH_GRAB = 64
local NO_ORDER = string.rep('\0', 16)

local item, hold_id, user = ARGV[5], ARGV[6], ARGV[7]

-- In the order of bytes; Lua's own is the locale's.
local function comes_before(one, other)
  for i = 1, 16 do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then
      return a < b
    end
  end
  return false
end

local function read(id)
  local packed = redis.call('HGET', KEYS[8], id)
  if not packed then
    return nil
  end
  local state, quantity, amount, created, expires, whose =
    string.match(string.sub(packed, 33), '^(%a) (%d+) (%d+) (%d+) (%d+) (.*)$')
  return {id = id, item = string.sub(packed, 1, 16), order = string.sub(packed, 17, 32), state = state,
    quantity = tonumber(quantity), amount = tonumber(amount), created = tonumber(created),
    expires = tonumber(expires), user = whose}
end

local function write(hold)
  redis.call('HSET', KEYS[8], hold.id, hold.item .. hold.order .. table.concat(
    {hold.state, int(hold.quantity), int(hold.amount), int(hold.created), int(hold.expires), hold.user}, ' '))
end

-- A user's part in the item: units held, units sold, ids of live holds.
local function part_of(whose)
  local packed = redis.call('HGET', KEYS[5], whose)
  if not packed then
    return 0, 0, ''
  end
  local held, sold = struct.unpack('<I4I4', packed)
  return held, sold, string.sub(packed, 9)
end

local function set_part(whose, held, sold, ids)
  if held == 0 and sold == 0 then
    redis.call('HDEL', KEYS[5], whose)
  else
    redis.call('HSET', KEYS[5], whose, struct.pack('<I4I4', held, sold) .. ids)
  end
end

local function without(ids, id)
  for i = 1, #ids, 16 do
    if string.sub(ids, i, i + 15) == id then
      return string.sub(ids, 1, i - 1) .. string.sub(ids, i + 16)
    end
  end
  return ids
end

-- Ends a live hold; its units are sold or free again.
local function finish(hold, state)
  hold.state = state
  write(hold)
  redis.call('ZREM', KEYS[6], hold.id)
  redis.call('ZREM', KEYS[7], hold.id)
  local held, sold, ids = part_of(hold.user)
  local bought = state == 'c' and hold.quantity or 0
  set_part(hold.user, held - hold.quantity, sold + bought, without(ids, hold.id))
  redis.call('HINCRBY', KEYS[4], 'held', int(-hold.quantity))
  if bought > 0 then
    redis.call('HINCRBY', KEYS[4], 'sold', int(bought))
  end
end

-- The bucket looks at the item when its next hold is due.
local function arm()
  local first = redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', KEYS[9], first[2], 'i' .. item)
  else
    redis.call('ZREM', KEYS[9], 'i' .. item)
  end
end

-- A payment under way that decides about units needed now.
local function unresolved()
  local late = redis.call('ZRANGEBYSCORE', KEYS[7], '-inf', int(now), 'LIMIT', 0, 1)
  if late[1] then
    local effects = waiting('p' .. read(late[1]).order)
    return {'new', int(now), {'no', 'unresolved'}, effects}
  end
end

local function held_answer(hold, replayed)
  return {'held', hold.id, int(hold.quantity), int(hold.amount), int(hold.expires), replayed}
end

if ARGV[4] == 'grab' then
  local row = redis.call('HMGET', KEYS[4], 'total', 'held', 'sold', 'price', 'limit', 'starts', 'ends', 'ttl')
  if not row[1] then
    return no('not_found')
  end
  -- The same call again, because its answer was lost.
  local again = read(hold_id)
  if again then
    return decided(held_answer(again, ''))
  end
  local quantity, price = tonumber(ARGV[8]), tonumber(row[4])
  local limit = row[5] ~= '' and tonumber(row[5]) or 4294967295
  if quantity == 0 or quantity > limit then
    return no('quantity', int(limit))
  end
  if price * quantity > AMOUNT_MAX then
    return no('price')
  end
  local held, sold, ids = part_of(user)
  if limit == 1 then
    local live
    for i = 1, #ids, 16 do
      local hold = read(string.sub(ids, i, i + 15))
      if hold.expires > now and (not live or hold.created < live.created
          or hold.created == live.created and comes_before(hold.id, live.id)) then
        live = hold
      end
    end
    if live then
      return decided(held_answer(live, '1'))
    end
  end
  if row[7] ~= '' and now >= tonumber(row[7]) then
    return no('ended')
  end
  if row[6] ~= '' and now < tonumber(row[6]) then
    return no('not_open', row[6])
  end
  local late = unresolved()
  if late then
    return late
  end

  -- The user's own due holds end first, then others.
  local free = tonumber(row[1]) - tonumber(row[2]) - tonumber(row[3])
  local finished = 0
  for i = 1, #ids, 16 do
    local hold = read(string.sub(ids, i, i + 15))
    if hold.expires <= now then
      finish(hold, 'e')
      free, finished = free + hold.quantity, finished + 1
    end
  end
  local more = false
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', int(now), 'LIMIT', 0, END_MAX + 1)) do
    if finished >= END_WITH_GRAB and free >= quantity then
      break
    end
    if finished >= END_MAX then
      more = true
      break
    end
    local hold = read(id)
    finish(hold, 'e')
    free, finished = free + hold.quantity, finished + 1
  end
  if finished > 0 then
    arm()
  end
  if more then
    return no('again')
  end
  held, sold, ids = part_of(user)
  if held + sold + quantity > limit then
    return no('limit_reached')
  end
  if free < quantity then
    return no('sold_out')
  end
  local hold = {id = hold_id, item = item, order = NO_ORDER, state = 'h', quantity = quantity,
    amount = price * quantity, created = now, expires = now + 1000 * tonumber(row[8]), user = user}
  write(hold)
  set_part(user, held + quantity, sold, ids .. hold_id)
  redis.call('HINCRBY', KEYS[4], 'held', int(quantity))
  redis.call('ZADD', KEYS[6], int(hold.expires), hold_id)
  arm()
  return decided(held_answer(hold, ''))
end

if ARGV[4] == 'due' then
  local due = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', int(now), 'LIMIT', 0, END_MAX)
  for _, id in ipairs(due) do
    finish(read(id), 'e')
  end
  arm()
  if #due == 0 then
    return no('nothing')
  end
  return decided({'done'})
end

local hold = read(hold_id)
if not hold then
  return no('not_found')
end

if ARGV[4] == 'paid' then
  if hold.state == 'p' and hold.order == ARGV[8] then
    local merchant = redis.call('HGET', KEYS[4], 'merchant')
    finish(hold, 'c')
    arm()
    redis.call('HSET', KEYS[10], hold.order, hold.id .. int(now) .. ' ' .. merchant)
    redis.call('HDEL', KEYS[3], 'p' .. hold.order)
    return decided({'ordered', hold.order, ''}, {'m' .. hold.order, int(now) .. ' m ' .. int(hold.amount) .. ' ' .. merchant})
  end
  return decided({'ordered', ARGV[8], ''}, waiting('m' .. ARGV[8]))
end

if ARGV[4] == 'unpaid' then
  if hold.state == 'p' and hold.order == ARGV[8] then
    redis.call('HDEL', KEYS[3], 'p' .. hold.order)
    redis.call('ZREM', KEYS[7], hold.id)
    redis.call('ZADD', KEYS[6], int(hold.expires), hold.id)
    hold.state, hold.order = 'h', NO_ORDER
    write(hold)
    arm()
  end
  return decided({'done'})
end

-- A claim or a release.
if hold.user ~= user then
  return no('forbidden')
end
if hold.state == 'c' then
  return decided({'ordered', hold.order, '1'}, waiting('m' .. hold.order))
end
if hold.state == 'r' then
  return decided({'released', '1'})
end
if hold.state == 'e' then
  return no('hold_expired')
end
if hold.state == 'p' then
  return {'new', int(now), {'no', 'unresolved'}, waiting('p' .. hold.order)}
end
if now >= hold.expires then
  return no('hold_expired')
end
if ARGV[4] == 'release' then
  finish(hold, 'r')
  arm()
  return decided({'released', ''})
end
hold.state, hold.order = 'p', ARGV[8]
write(hold)
redis.call('ZREM', KEYS[6], hold.id)
redis.call('ZADD', KEYS[7], int(hold.expires), hold.id)
arm()
local payment = {'p' .. hold.order, int(now) .. ' p ' .. int(hold.amount) .. ' ' .. hold.user .. ' ' .. hold.id .. hold.item}
redis.call('HSET', KEYS[3], payment[1], payment[2])
return {'new', int(now), {'paying'}, payment}
