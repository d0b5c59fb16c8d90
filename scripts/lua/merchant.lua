-- A merchant, and what it has of its sales.
--
-- KEYS[4]  the merchant
-- KEYS[5]  the orders and gifts it was owed for: how much, the commission in it, when it was
--          due, and 'r' once it went back
-- KEYS[6]  the bucket's merchants by their ids
-- KEYS[7]  its slots: when money is due -> how much, and the commission in it
-- KEYS[8]  its entries by time
-- KEYS[9]  the bucket's deadlines
-- KEYS[10] refund: the mark of an attempt for which there was too little
-- ARGV[4]  'put', 'owe', 'settle', 'withdraw' or 'refund'
-- put:      ARGV[5] name; ARGV[6] status, or '' for the one it has; ARGV[7] who
--           checks its papers if they are checked with this, and ARGV[8] under which
--           reference; ARGV[9] '1' if that was said; ARGV[10] how long money is pending
--           in seconds and ARGV[11] the commission in hundredths of a percent, each or
--           '' for what it has
-- owe:      ARGV[5] order or gift, ARGV[6] amount, ARGV[7] 'o' or 'g'
-- settle:   what is due
-- withdraw: ARGV[5] amount; ARGV[6] 'r' and the reference, or ''
-- refund:   ARGV[5] order; ARGV[6] when the attempt was begun; ARGV[7] how long its mark is
--           kept in milliseconds. Half of that later it takes nothing, as in pay.lua
--
-- What a merchant becomes stands in merchant.rs, what is due when in sale.rs. 'owed' is
-- all a merchant has, and 'pending' what of it is not due yet.

local ROW, OWED, LISTED, SLOTS, SALES, DUE = unpack(KEYS, 4, 9)
local id = string.match(ROW, '}:merchant:(.*)$')
local USUAL_AFTER_S, USUAL_BPS = '604800', '0'

if ARGV[4] == 'put' then
  local row = redis.call('HMGET', ROW, 'status', 'by', 'reference', 'checked', 'turn', 'after', 'bps')
  local was, by, reference, checked = row[1], row[2] or '', row[3] or '', row[4] or ''
  local status = ARGV[6] ~= '' and ARGV[6] or was or 'pending'
  local after = ARGV[10] ~= '' and ARGV[10] or row[6] or USUAL_AFTER_S
  local bps = ARGV[11] ~= '' and ARGV[11] or row[7] or USUAL_BPS
  if status == 'pending' then
    by, reference, checked = '', '', ''
  elseif status == 'verified' and ARGV[6] ~= '' and (ARGV[9] == '1' or was ~= status or checked == '') then
    by, reference, checked = ARGV[7], ARGV[8], int(now)
  end
  local effects = {}
  -- A new one has no items, and one that was always verified, or not yet, is kept from nothing.
  if was and was ~= status and (status ~= 'verified' or row[5]) then
    local turn = int(tonumber(row[5] or '0') + 1)
    redis.call('HSET', ROW, 'turn', turn)
    -- Under its turn: one that arrives takes no later one out of the outbox.
    effects = {'k' .. id .. ' ' .. turn, int(now) .. ' k ' .. turn .. ' ' .. id .. ' ' .. status}
  end
  redis.call('HSET', ROW, 'name', ARGV[5], 'status', status, 'by', by, 'reference', reference, 'checked', checked,
    'after', after, 'bps', bps)
  redis.call('ZADD', LISTED, 0, id)
  tell('m', table.concat({int(now), status, id, checked ~= '' and checked or '0', after, bps, int(#by),
    int(#reference)}, ' ') .. ' ' .. by .. reference .. ARGV[5])
  return decided({'merchant', status, id, ARGV[5], by, reference, checked, after, bps}, effects)
end

-- Slots settled in one run.
local SETTLED_MAX = 64

-- A look at all that may be written, before anything is.
local row = redis.call('HMGET', ROW, 'owed', 'pending', 'after', 'bps', 'entries', 'name')
local owed = assert(tonumber(row[1] or '0'), 'what a merchant is owed is no number')
local pending = assert(tonumber(row[2] or '0'), 'what is pending is no number')
local entries = assert(tonumber(row[5] or '0'), 'how many entries there are is no number')
redis.call('ZCARD', SALES)
redis.call('ZCARD', DUE)
redis.call('HLEN', SLOTS)

local function slot_of(text)
  local amount, commission = string.match(text, '^(%d+) (%d+)$')
  return assert(tonumber(amount), 'a slot is damaged'), tonumber(commission)
end

-- Enters a movement, once what the merchant has is counted.
local function entered(kind, amount, about)
  entries = entries + 1
  redis.call('ZADD', SALES, int(now),
    table.concat({string.format('%016d', entries), kind, int(amount), int(pending), int(owed - pending), about}, ' '))
end

local function write_money()
  redis.call('HSET', ROW, 'owed', int(owed), 'pending', int(pending), 'entries', int(entries))
end

-- Sets the deadline to what is due next.
local function look_again(next_due)
  if next_due then
    redis.call('ZADD', DUE, int(next_due), 'm' .. id)
  else
    redis.call('ZREM', DUE, 'm' .. id)
  end
end

-- What is due, the first first, and when the next is.
local function look()
  local slots, due, next_due = redis.call('HGETALL', SLOTS), {}, nil
  for i = 1, #slots, 2 do
    local at, amount, commission = assert(tonumber(slots[i]), 'a slot is damaged'), slot_of(slots[i + 1])
    if at <= now then
      due[#due + 1] = {at, amount, commission}
    elseif not next_due or at < next_due then
      next_due = at
    end
  end
  table.sort(due, function(one, other) return one[1] < other[1] end)
  return due, next_due
end

-- Settles what is due, at most so much.
local function settle(due, next_due, most)
  if #due > most then
    next_due = due[most + 1][1]
  end
  for i = 1, math.min(#due, most) do
    local at, amount, commission = unpack(due[i])
    -- The commission goes first, so that it is pending money that it is taken from.
    pending, owed = pending - commission, owed - commission
    if commission > 0 then
      entered('c', commission, int(at))
    end
    pending = pending - (amount - commission)
    entered('t', amount - commission, int(at))
    move('merchants', -commission)
    move('platform', commission)
    redis.call('HDEL', SLOTS, int(at))
    tell('y', table.concat({int(now), int(at), int(amount), int(commission), int(pending), int(owed - pending), id}, ' '))
  end
  if #due > 0 then
    write_money()
  end
  look_again(next_due)
end

-- What is available once this is settled: what is due counts, though nobody has looked.
local function available_with(due)
  local available = owed - pending
  for _, slot in ipairs(due) do
    available = available + slot[2] - slot[3]
  end
  return available
end

if ARGV[4] == 'settle' then
  local due, next_due = look()
  settle(due, next_due, SETTLED_MAX)
  return decided({#due > 0 and 'done' or 'none'})
end

if ARGV[4] == 'withdraw' then
  if not row[6] then
    return no('not_found')
  end
  local amount, due, next_due = tonumber(ARGV[5]), look()
  if amount > available_with(due) then
    return no('insufficient_funds')
  end
  settle(due, next_due, #due)
  owed = owed - amount
  entered('w', amount, ARGV[6])
  write_money()
  move('withdrawn', amount)
  move('merchants', -amount)
  return decided({'sales', int(pending), int(owed - pending), id})
end

if ARGV[4] == 'refund' then
  local sale = redis.call('HGET', OWED, ARGV[5])
  local paid, commission, sold_until, back = string.match(sale or '', '^(%d+) (%d+) (%d+)( ?r?)$')
  local amount = assert(tonumber(paid), 'what a merchant was owed is damaged')
  if back == ' r' then
    return decided({'refunded'})
  end
  local too_late = now - tonumber(ARGV[6]) >= tonumber(ARGV[7]) / 2
  if too_late or redis.call('EXISTS', KEYS[10]) == 1 then
    return decided({'short'})
  end
  local due, next_due = look()
  -- One that was settled has no slot any more, and none comes again for then.
  local slot = tonumber(sold_until) > now and redis.call('HGET', SLOTS, sold_until)
  local sum, part
  if slot then
    sum, part = slot_of(slot)
  elseif amount > available_with(due) then
    redis.call('SET', KEYS[10], '1', 'PX', ARGV[7])
    return decided({'short'})
  end
  settle(due, next_due, #due)
  owed = owed - amount
  if slot then
    pending = pending - amount
    if sum == amount then
      redis.call('HDEL', SLOTS, sold_until)
      local _, after = look()
      look_again(after)
    else
      redis.call('HSET', SLOTS, sold_until, int(sum - amount) .. ' ' .. int(part - tonumber(commission)))
    end
    entered('r', amount, commission .. ' ' .. sold_until .. ' o' .. ARGV[5])
  else
    -- The commission is the platform's by now, and stays so.
    entered('r', amount, '0 - o' .. ARGV[5])
  end
  redis.call('HSET', OWED, ARGV[5], sale .. ' r')
  write_money()
  move('merchants', -amount)
  move('transit', amount)
  return decided({'refunded'})
end

if redis.call('HEXISTS', OWED, ARGV[5]) == 0 then
  local amount, after, bps = tonumber(ARGV[6]), tonumber(row[3] or USUAL_AFTER_S), tonumber(row[4] or USUAL_BPS)
  -- In two parts, as their product need not be exact.
  local small = amount % 10000
  local commission = (amount - small) / 10000 * bps + math.floor(small * bps / 10000)
  local slot_ms = after < 86400 and 60000 or 3600000
  local due = (math.floor((now + after * 1000) / slot_ms) + 1) * slot_ms
  local sum, part = 0, 0
  local slot = redis.call('HGET', SLOTS, int(due))
  if slot then
    sum, part = slot_of(slot)
  end
  local next_due = redis.call('ZSCORE', DUE, 'm' .. id)
  owed, pending = owed + amount, pending + amount
  redis.call('HSET', OWED, ARGV[5], int(amount) .. ' ' .. int(commission) .. ' ' .. int(due))
  redis.call('HSET', SLOTS, int(due), int(sum + amount) .. ' ' .. int(part + commission))
  entered('s', amount, int(due) .. ' ' .. int(commission) .. ' ' .. ARGV[7] .. ARGV[5])
  write_money()
  if not next_due or tonumber(next_due) > due then
    look_again(due)
  end
  move('transit', -amount)
  move('merchants', amount)
end
return decided({'done'})
