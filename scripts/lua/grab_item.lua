-- Grabs of units of one item, all that wait at once, in their order.
--
-- KEYS[2]  the bucket's outbox
-- KEYS[3]  to KEYS[8]: see holds.lua
-- KEYS[9]  merchants that have been kept from selling
-- KEYS[10] see gifts.lua
-- then of each call that has one: the mark of its operation
-- ARGV[1]  how many calls there are
-- ARGV[2]  the newest caller's time
-- ARGV[3]  'live' or 'test'
-- ARGV[4]  the item
-- then of each call: the hold that it becomes, its user, its quantity, and if it
--          has a mark how long that is kept
--
-- Answers are words with spaces between them, or what decide.lua says: under a
-- mark, and where the payment of another call stands in the way. What a run
-- holds it writes at its end, so before its first write it looks at every key
-- that it may write then.

local SHARED_KEYS, SHARED_ARGS = 10, 4
-- Due holds that a run ends besides those whose units it needs.
local END_WITH_GRAB = 64
-- Codes that an order is handed, at most: whoever asks for it is told them all.
local CODES_MAX = 1000

local calls, item = tonumber(ARGV[1]), ARGV[4]
local args_each = (#ARGV - SHARED_ARGS) / calls
local is_marked = args_each == 4

local now, apart = bucket_time({}, KEYS[1], tonumber(ARGV[2]), ARGV[3])
if not now then
  return clock_is_off(calls, apart)
end
local now_text = int(now)

local ids, users = {}, {}
for call = 1, calls do
  local at = SHARED_ARGS + (call - 1) * args_each
  ids[call], users[call] = ARGV[at + 1], ARGV[at + 2]
end
local row = redis.call('HMGET', ITEM, 'total', 'held', 'sold', 'price', 'limit', 'starts', 'ends', 'ttl', 'merchant',
  'codes')
local standing = row[1] and redis.call('HGET', KEYS[9], row[9])
local refused = standing and string.match(standing, '^%d+ (.*)$')
local made = redis.call('HMGET', HOLDS, unpack(ids))
local packed_parts = redis.call('HMGET', USERS, unpack(users))
local due = redis.call('ZRANGEBYSCORE', LIVE, '-inf', now_text, 'LIMIT', 0, END_MAX + 1)
local late = redis.call('ZRANGEBYSCORE', PAYING, '-inf', now_text, 'LIMIT', 0, 1)
redis.call('ZSCORE', DUE, 'i' .. item)

local price, limit = tonumber(row[4]), row[5] ~= '' and tonumber(row[5]) or 4294967295
local free = row[1] and tonumber(row[1]) - tonumber(row[2]) - tonumber(row[3])
local expires = row[1] and now + 1000 * tonumber(row[8])
local expires_text = expires and int(expires)

-- What a hold of this run is written as, before its quantity and behind its amount.
local before, behind = item .. NO_ORDER .. 'h ', row[1] and ' ' .. now_text .. ' ' .. expires_text .. ' '

-- What the run has still to write: holds with their deadlines, and parts of users.
local rows, deadlines, parts = {}, {}, {}
local held, held_units = {}, 0
-- How many of the due holds have been looked at, and whether any was ended.
local looked_at, any_ended = 0, false

local function hold_of(id)
  local packed = held[id]
  return packed and read_packed(id, packed) or read(id)
end

local function part_of(call, user)
  if parts[user] then
    return parts[user]
  elseif any_ended then
    return redis.call('HGET', USERS, user)
  end
  return packed_parts[call]
end

local function write_parts()
  for user, part in pairs(parts) do
    redis.call('HSET', USERS, user, part)
  end
  parts = {}
end

local function end_hold(hold)
  write_parts()
  any_ended = true
  finish(hold, 'e', now)
  free = free + hold.quantity
end

-- Ends due holds until so many units are free, and some more that are due.
local function end_due(quantity)
  while looked_at < math.min(#due, END_MAX) and (looked_at < END_WITH_GRAB or free < quantity) do
    looked_at = looked_at + 1
    local hold = read(due[looked_at])
    -- A user's own may have been ended before.
    if hold.state == 'h' then
      end_hold(hold)
    end
  end
end

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

local function told(id, quantity, amount, until_ms, replayed)
  if is_marked then
    return {'held', id, quantity, amount, until_ms, replayed}
  end
  -- An id has any bytes, so it stands at the end.
  return 'held ' .. quantity .. ' ' .. amount .. ' ' .. until_ms .. ' ' .. replayed .. ' ' .. now_text .. ' ' .. id
end

local function told_again(hold, replayed)
  return told(hold.id, int(hold.quantity), int(hold.amount), int(hold.expires), replayed)
end

-- A no, and the effects that another has to carry before it is asked again.
local function no(words, effects)
  if is_marked or effects then
    return nil, {'new', now_text, words, effects or {}}
  end
  return table.concat(words, ' ')
end

-- A no about units, unless as many gifts as make it a yes have to end first.
local function no_units(word, giver, needed, may_be)
  local others = may_be and gifts_in_the_way(now, giver, needed) or {}
  if others[1] then
    return no({'no', 'gifts', unpack(others)}, {})
  end
  return no({'no', word})
end

-- The guards stand in the order that the API documents.
local function grab(call, id, user, quantity_text)
  if not row[1] then
    return no({'no', 'not_found'})
  end
  -- The same call again, because its answer was lost.
  local packed = held[id] or made[call]
  if packed then
    return told_again(read_packed(id, packed), '')
  end
  local quantity = tonumber(quantity_text)
  if quantity == 0 or quantity > limit then
    return no({'no', 'quantity', int(limit)})
  end
  if row[10] == '1' and quantity > CODES_MAX then
    return no({'no', 'over_codes'})
  end
  if price * quantity > AMOUNT_MAX then
    return no({'no', 'price'})
  end
  local part = part_of(call, user)
  if limit == 1 and part then
    local _, _, live = read_part(part)
    local first
    for i = 1, #live, 16 do
      local hold = hold_of(string.sub(live, i, i + 15))
      if hold.expires > now and (not first or hold.created < first.created
          or hold.created == first.created and comes_before(hold.id, first.id)) then
        first = hold
      end
    end
    if first then
      return told_again(first, '1')
    end
  end
  if refused and refused ~= 'verified' then
    return no({'no', 'merchant', refused})
  end
  if row[7] ~= '' and now >= tonumber(row[7]) then
    return no({'no', 'ended'})
  end
  if row[6] ~= '' and now < tonumber(row[6]) then
    return no({'no', 'not_open', row[6]})
  end
  if late[1] then
    local field = 'p' .. read(late[1]).order
    local payment = redis.call('HGET', KEYS[2], field)
    return no({'no', 'unresolved'}, payment and {field, payment} or {})
  end
  if #due > 0 then
    -- The user's own count against the limit.
    local _, _, live = read_part(part)
    for i = 1, #live, 16 do
      local hold = hold_of(string.sub(live, i, i + 15))
      if hold.expires <= now then
        end_hold(hold)
      end
    end
    end_due(quantity)
    if free < quantity and looked_at < #due then
      return no({'no', 'again'})
    end
    part = part_of(call, user)
  end
  local units, sold, live = read_part(part)
  if units + sold + quantity > limit then
    return no_units('limit_reached', user, units + sold + quantity - limit, holds_for_gifts(units, live, hold_of))
  end
  if free < quantity then
    return no_units('sold_out', nil, quantity - free, true)
  end
  local amount_text = int(price * quantity)
  packed = before .. quantity_text .. ' ' .. amount_text .. behind .. user
  held[id], parts[user] = packed, packed_part(units + quantity, sold, live .. id)
  free, held_units = free - quantity, held_units + quantity
  rows[#rows + 1] = id
  rows[#rows + 1] = packed
  deadlines[#deadlines + 1] = expires_text
  deadlines[#deadlines + 1] = id
  return told(id, quantity_text, amount_text, expires_text, '')
end

local function grab_once(call)
  local at = SHARED_ARGS + (call - 1) * args_each
  local mark = KEYS[SHARED_KEYS + call]
  local kept = is_marked and answered(mark, KEYS[2])
  if kept then
    return kept
  end
  local answer, refused = grab(call, ids[call], users[call], ARGV[at + 3])
  if refused or not is_marked then
    return refused or answer
  end
  remember(mark, ARGV[at + 4], now_text, answer, {})
  return {'new', now_text, answer, {}}
end

local answers = answer_each(calls, grab_once)

if #rows > 0 then
  local fields = {}
  for user, part in pairs(parts) do
    fields[#fields + 1] = user
    fields[#fields + 1] = part
  end
  redis.call('HSET', HOLDS, unpack(rows))
  if #fields > 0 then
    redis.call('HSET', USERS, unpack(fields))
  end
  redis.call('HINCRBY', ITEM, 'held', int(held_units))
  redis.call('ZADD', LIVE, unpack(deadlines))
  for i = 1, #rows, 2 do
    tell('H', now_text .. ' ' .. rows[i] .. rows[i + 1])
  end
end
if #rows > 0 or any_ended then
  arm(item)
end
return answers
