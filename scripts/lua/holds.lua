-- Holds of an item, for every script about them.
--
-- ITEM     the item; under '#' and a gift the place of the code that the gift was handed
-- USERS    its users: units held, units sold, the ids of live holds
-- LIVE     its live holds by deadline
-- PAYING   its holds that are being paid, by deadline
-- HOLDS    the bucket's holds: item, order, state and terms
-- DUE      the bucket's deadlines
--
-- A hold that is being paid is not due, however late its payment is known: it
-- was claimed in time. Who needs its units asks for the payment to be ended first.

-- Holds ended at a time.
local END_MAX = 512
local NO_ORDER = string.rep('\0', 16)

local function read_packed(id, packed)
  local state, quantity, amount, created, expires, whose =
    string.match(string.sub(packed, 33), '^(%a) (%d+) (%d+) (%d+) (%d+) (.*)$')
  return {id = id, item = string.sub(packed, 1, 16), order = string.sub(packed, 17, 32), state = state,
    quantity = tonumber(quantity), amount = tonumber(amount), created = tonumber(created),
    expires = tonumber(expires), user = whose}
end

local function read(id)
  local packed = redis.call('HGET', HOLDS, id)
  return packed and read_packed(id, packed) or nil
end

local function packed_hold(hold)
  return hold.item .. hold.order .. hold.state .. ' ' .. int(hold.quantity) .. ' ' .. int(hold.amount) .. ' ' ..
    int(hold.created) .. ' ' .. int(hold.expires) .. ' ' .. hold.user
end

local function write(hold)
  redis.call('HSET', HOLDS, hold.id, packed_hold(hold))
end

-- A user's part in the item: units held, units sold, ids of live holds.
local function read_part(packed)
  if not packed then
    return 0, 0, ''
  end
  local held, sold = struct.unpack('<I4I4', packed)
  return held, sold, string.sub(packed, 9)
end

local function packed_part(held, sold, ids)
  return struct.pack('<I4I4', held, sold) .. ids
end

local function without(ids, id)
  for i = 1, #ids, 16 do
    if string.sub(ids, i, i + 15) == id then
      return string.sub(ids, 1, i - 1) .. string.sub(ids, i + 16)
    end
  end
  return ids
end

-- Ends a live hold at a time; its units are sold or free again.
local function finish(hold, state, at)
  hold.state = state
  write(hold)
  tell('h', int(at) .. ' ' .. hold.id .. packed_hold(hold))
  redis.call('ZREM', LIVE, hold.id)
  redis.call('ZREM', PAYING, hold.id)
  local held, sold, ids = read_part(redis.call('HGET', USERS, hold.user))
  local bought = state == 'c' and hold.quantity or 0
  held, sold, ids = held - hold.quantity, sold + bought, without(ids, hold.id)
  if held == 0 and sold == 0 then
    redis.call('HDEL', USERS, hold.user)
  else
    redis.call('HSET', USERS, hold.user, packed_part(held, sold, ids))
  end
  redis.call('HINCRBY', ITEM, 'held', int(-hold.quantity))
  if bought > 0 then
    redis.call('HINCRBY', ITEM, 'sold', int(bought))
  end
end

-- The bucket looks at an item when its next hold is due.
local function arm(item)
  local first = redis.call('ZRANGE', LIVE, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', DUE, first[2], 'i' .. item)
  else
    redis.call('ZREM', DUE, 'i' .. item)
  end
end
