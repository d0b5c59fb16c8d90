-- A mass envelope in its own bucket: its reserve, transfers with its pools, its
-- end and its settlement.
--
-- KEYS[4]  the envelope
-- KEYS[5]  the reserve: shares, number and amount each, from 'head' to 'tail'
-- KEYS[6]  transfers: pool -> sequence number, kind, how many, the sequence
--          number at which it last was empty, closed or lapsed; 'shares' and
--          the pool -> those of an open grant
-- KEYS[7]  the bucket's deadlines
-- KEYS[8]  its settled envelopes by time
-- ARGV[4]  'grant', 'recall', 'close', 'lapse', 'peek', 'note', 'cancel',
--          'cancelled', 'due', 'resolve', 'settle' or 'credited'
-- ARGV[5]  the envelope's id
-- ARGV[6]  the pool
-- grant, recall: ARGV[7] how many
-- note:    ARGV[7] sequence number, [8] how many were given back, [9] their
--          amount, [10] those that go on to another pool, [11] how many are left
-- cancelled: the figures to tell: ARGV[6] settled, [7] taken, [8] taken amount,
--          [9] claimed amount

-- Shares moved at a time.
local MOVED_MAX = 1024

local verb, id, pool = ARGV[4], ARGV[5], ARGV[6]
local FIELDS = {'ended', 'closing', 'lapsing', 'settled', 'refunded', 'head', 'tail', 'kept', 'unsold', 'open', 'empty',
  'closed', 'lapsed'}
local row = redis.call('HMGET', KEYS[4], 'expires', 'claim_by', 'pools', 'width', 'auto_claim', 'unclaimed', 'sender',
  'funded', unpack(FIELDS))
if not row[1] then
  return no('not_found')
end
local expires, claim_by, pools = tonumber(row[1]), tonumber(row[2]), tonumber(row[3])
local size, auto_claim, unclaimed, sender = row[4] == '4' and 8 or 12, row[5] == '1', row[6], row[7]
-- What is said behind money that goes back outside.
local to_sender = row[8] == '1' and ' x' or ''
local ended, closing, lapsing, settled = row[9], row[10], row[11] == '1', row[12] == '1'
local refunded, head, tail, kept, unsold = tonumber(row[13]), tonumber(row[14]), tonumber(row[15]), tonumber(row[16]),
  tonumber(row[17])
local open, empty, closed, lapsed = tonumber(row[18]), tonumber(row[19]), tonumber(row[20]), tonumber(row[21])

local refunded_before = refunded

-- Writes what has changed.
local function keep()
  write_changed(KEYS[4], FIELDS, row, 8, {ended, closing, lapsing and '1' or '', settled and '1' or '', int(refunded),
    int(head), int(tail), int(kept), int(unsold), int(open), int(empty), int(closed), int(lapsed)})
end

local function transfer_of()
  local packed = redis.call('HGET', KEYS[6], pool)
  if not packed then
    return {sequence = 0, kind = '-', count = 0, empty = -1, over = '-'}
  end
  local sequence, kind, count, at, over = string.match(packed, '^(%d+) (.) (%d+) (%-?%d+) (.)$')
  return {sequence = tonumber(sequence), kind = kind, count = tonumber(count), empty = tonumber(at), over = over}
end

local function write(transfer, ...)
  redis.call('HSET', KEYS[6], pool, int(transfer.sequence) .. ' ' .. transfer.kind .. ' ' .. int(transfer.count) .. ' ' ..
    int(transfer.empty) .. ' ' .. transfer.over, ...)
end

-- Under which an open transfer waits in the outbox.
local function waits()
  return 't' .. id .. struct.pack('<I2', tonumber(pool))
end

local function shown(transfer)
  local shares = ''
  if transfer.kind == 'g' then
    shares = redis.call('HGET', KEYS[6], 'shares' .. pool)
  end
  return {'transfer', transfer.kind, int(transfer.sequence), int(transfer.count), shares}
end

-- Opens a pool's next transfer.
local function begin(transfer, kind, count, shares)
  if transfer.empty == transfer.sequence then
    empty = empty - 1
  end
  transfer.sequence, transfer.kind, transfer.count = transfer.sequence + 1, kind, count
  if shares then
    write(transfer, 'shares' .. pool, shares)
  else
    write(transfer)
  end
  redis.call('HSET', KEYS[3], waits(), int(now) .. ' t ' .. int(transfer.sequence))
  open = open + 1
  keep()
  return decided({'transfer', kind, int(transfer.sequence), int(count), shares or ''})
end

local function tell_settled()
  tell('t', int(now) .. ' ' .. ended .. ' ' .. int(refunded) .. ' ' .. id)
end

-- What the end causes: the pools are told.
local function finish(how, effects)
  ended, settled = how, auto_claim
  set_deadline(KEYS[7], KEYS[8], id, claim_by, true, settled, now)
  effects[#effects + 1] = 'e' .. id
  effects[#effects + 1] = int(now) .. ' e ' .. how
  if how == 's' then
    tell('s', int(now) .. ' ' .. id)
  else
    tell(how == 'c' and 'n' or 'x', int(now) .. ' ' .. int(refunded - refunded_before) .. ' ' .. id)
  end
  if settled then
    tell_settled()
  end
  return effects
end

-- All that is in the reserve leaves for the sender.
local function pay_back(kind)
  local refund = kept
  if refund == 0 then
    return {}
  end
  refunded, kept, head, tail, unsold = refunded + refund, 0, 0, 0, 0
  move('escrowed', -refund)
  move('transit', refund)
  return {kind .. id, int(now) .. ' ' .. kind .. ' ' .. int(refund) .. ' ' .. sender .. to_sender}
end

if verb == 'grant' or verb == 'recall' then
  if ended ~= '' or closing ~= '' or now >= expires then
    return no('ended', ended)
  end
  local transfer = transfer_of()
  if transfer.kind ~= '-' then
    return decided(shown(transfer))
  end
  local wanted = math.min(tonumber(ARGV[7]), MOVED_MAX)
  if verb == 'recall' then
    return begin(transfer, 'r', wanted)
  end
  local left = tail - head
  if left == 0 then
    return no('empty')
  end
  -- Not all of it to the first who ask.
  local count = math.min(wanted, left, math.max(1, math.ceil(2 * left / pools)))
  local shares = redis.call('GETRANGE', KEYS[5], head * size, (head + count) * size - 1)
  local amount = 0
  for at = 1, #shares, size do
    local _, one = struct.unpack(size == 8 and '<I4I4' or '<I4I8', shares, at)
    amount = amount + one
  end
  head, kept = head + count, kept - amount
  local told = begin(transfer, 'g', count, shares)
  move('escrowed', -amount)
  move('transit', amount)
  return told
end

if verb == 'close' or verb == 'lapse' then
  local transfer = transfer_of()
  if transfer.kind ~= '-' then
    return decided(shown(transfer))
  end
  if verb == 'close' then
    if ended ~= '' or closing == '' or transfer.over ~= '-' then
      return no('done')
    end
    return begin(transfer, 'c', 0)
  end
  if settled or not lapsing or transfer.over == 'l' then
    return no('done')
  end
  return begin(transfer, 'l', 0)
end

if verb == 'peek' then
  local transfer = transfer_of()
  if transfer.kind == '-' then
    return no('done')
  end
  return decided(shown(transfer))
end

if verb == 'note' then
  local transfer = transfer_of()
  if tonumber(ARGV[7]) ~= transfer.sequence then
    return no('done')
  end
  if transfer.kind ~= '-' then
    local count, amount = tonumber(ARGV[8]), tonumber(ARGV[9])
    if ARGV[10] ~= '' then
      if head == tail then
        head, tail = 0, 0
      end
      redis.call('SETRANGE', KEYS[5], tail * size, ARGV[10])
      tail = tail + #ARGV[10] / size
    else
      unsold = unsold + count
    end
    kept = kept + amount
    move('transit', -amount)
    move('escrowed', amount)
    if transfer.kind == 'c' then
      transfer.over, closed = 'c', closed + 1
    elseif transfer.kind == 'l' then
      transfer.over, lapsed = 'l', lapsed + 1
    end
    transfer.kind, transfer.count, open = '-', 0, open - 1
    write(transfer)
    redis.call('HDEL', KEYS[6], 'shares' .. pool)
    redis.call('HDEL', KEYS[3], waits())
  end
  if ARGV[11] == '0' and transfer.empty ~= transfer.sequence then
    transfer.empty, empty = transfer.sequence, empty + 1
    write(transfer)
  end
  local effects = {}
  if ended == '' and closing == '' and head == tail and open == 0 and empty == pools then
    effects = finish('s', effects)
  end
  keep()
  return decided({'noted'}, effects)
end

if verb == 'cancel' then
  if ended == 'c' then
    return {'new', int(now), {'ended'}, {}}
  end
  if ended ~= '' or closing == 'e' or closing == '' and now >= expires then
    return no('ended_otherwise')
  end
  if closing == '' then
    closing = 'c'
    keep()
    redis.call('ZADD', KEYS[7], int(now), 'e' .. id)
  end
  return {'new', int(now), {'closing'}, {}}
end

if verb == 'cancelled' then
  if ended ~= 'c' then
    return no('ended_otherwise')
  end
  -- Who resolved it may be another, and not have carried them yet.
  local effects = waiting('r' .. id)
  for _, part in ipairs(waiting('e' .. id)) do
    effects[#effects + 1] = part
  end
  return decided({'envelope', ended, ARGV[6], ARGV[7], ARGV[8], ARGV[9], int(refunded), id}, effects)
end

if verb == 'resolve' then
  if ended ~= '' or closing == '' then
    return no('done')
  end
  if closed < pools then
    return no('early')
  end
  local is_sold_out = head == tail and unsold == 0
  local effects = finish(is_sold_out and 's' or closing, pay_back('r'))
  keep()
  return decided({'done'}, effects)
end

if verb == 'settle' or verb == 'credited' then
  if settled or not lapsing then
    return no('done')
  end
  if verb == 'settle' and lapsed < pools then
    return no('early')
  end
  settled = true
  local effects = verb == 'settle' and pay_back('l') or {}
  if #effects > 0 then
    tell('l', int(now) .. ' ' .. int(refunded - refunded_before) .. ' ' .. id)
  end
  tell_settled()
  keep()
  set_deadline(KEYS[7], KEYS[8], id, claim_by, false, settled, now)
  return decided({'done'}, effects)
end

-- What is due now, the first of it.
if settled then
  redis.call('ZREM', KEYS[7], 'e' .. id)
  return no('nothing', ended)
end
if ended == '' then
  if closing == '' and now < expires then
    return no('nothing', ended)
  end
  if closing == '' then
    closing = 'e'
    keep()
  end
  return decided({'closing'})
end
if now < claim_by then
  return no('nothing', ended)
end
if not lapsing then
  lapsing = true
  keep()
end
return decided({unclaimed == 'return' and 'lapsing' or 'crediting'})
