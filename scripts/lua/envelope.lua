-- Everything but grabs that happens to an open envelope. The guards stand in the
-- order that the API documents.
--
-- KEYS[4]  the envelope
-- KEYS[5]  its shares
-- KEYS[6]  its winners: user -> win (win.lua)
-- KEYS[7]  its winners in the order of their shares
-- KEYS[8]  the bucket's deadlines
-- KEYS[9]  the bucket's settled envelopes by time
-- ARGV[4]  'claim', 'cancel' or 'due'
-- ARGV[5]  the envelope's id
-- ARGV[6]  the user, for a claim

-- Shares credited at a time.
local CREDIT_MAX = 64

local id, user = ARGV[5], ARGV[6]
local FIELDS = {'taken', 'taken_amount', 'claimed', 'claimed_amount', 'refunded', 'credited', 'ended', 'settled'}
local row = redis.call('HMGET', KEYS[4], 'opens', 'expires', 'claim_by', 'shares', 'width', 'total', 'auto_claim',
  'unclaimed', 'sender', 'payout', 'funded', unpack(FIELDS))
if not row[1] then
  return no('not_found')
end
local opens, expires, claim_by = tonumber(row[1]), tonumber(row[2]), tonumber(row[3])
local shares, width, total = tonumber(row[4]), tonumber(row[5]), tonumber(row[6])
local auto_claim, unclaimed, sender = row[7] == '1', row[8], row[9]
-- What is said behind money that goes outside: to winners, and back to the sender.
local to_winner, to_sender = row[10] == '1' and ' x' or '', row[11] == '1' and ' x' or ''
local taken, taken_amount = tonumber(row[12]), tonumber(row[13])
local claimed, claimed_amount, refunded = tonumber(row[14]), tonumber(row[15]), tonumber(row[16])
local credited, ended, settled = tonumber(row[17]), row[18], row[19] == '1'

local function amount_of(share)
  local bytes = redis.call('GETRANGE', KEYS[5], share * width, share * width + width - 1)
  return (struct.unpack(width == 4 and '<I4' or '<I8', bytes))
end

-- Settles if nobody is owed anything, writes what has changed, and sets the
-- next deadline.
local function keep(lapsed)
  if not settled and ended ~= '' and (lapsed or claimed == taken) then
    settled = true
    tell('t', int(now) .. ' ' .. ended .. ' ' .. int(refunded) .. ' ' .. id)
  end
  write_changed(KEYS[4], FIELDS, row, 11, {int(taken), int(taken_amount), int(claimed), int(claimed_amount), int(refunded),
    int(credited), ended, settled and '1' or ''})
  set_deadline(KEYS[8], KEYS[9], id, claim_by, ended ~= row[18], settled, now)
end

-- Escrow leaves for a wallet in another bucket, or for a payout there.
local function leave(amount)
  move('escrowed', -amount)
  move('transit', amount)
end

-- Ends the envelope; what is unsold goes back.
local function finish(how)
  local refund = total - taken_amount
  ended, refunded = how, refunded + refund
  leave(refund)
  tell(how == 'c' and 'n' or 'x', int(now) .. ' ' .. int(refund) .. ' ' .. id)
  return {'r' .. id, int(now) .. ' r ' .. int(refund) .. ' ' .. sender .. to_sender}
end

local function figures()
  return {'envelope', ended, settled and '1' or '', int(taken), int(taken_amount), int(claimed_amount), int(refunded), id}
end

if ARGV[4] == 'claim' then
  local mine = redis.call('HGET', KEYS[6], user)
  if not mine then
    return no('not_won')
  end
  local share, grabbed_at, claimed_at = read_win(mine, opens)
  local amount = amount_of(share)
  if claimed_at then
    local effects = waiting('c' .. id .. user)
    if #effects == 0 then
      effects = waiting('g' .. id .. user)
    end
    return decided({'claimed', int(amount), int(claimed_at), '1'}, effects)
  end
  if unclaimed == 'return' and now >= claim_by then
    return no('lapsed')
  end
  redis.call('HSET', KEYS[6], user, packed_win(share, opens, grabbed_at, now))
  claimed, claimed_amount = claimed + 1, claimed_amount + amount
  leave(amount)
  tell_win('k', now, share, amount, grabbed_at, id, user)
  keep(false)
  return decided({'claimed', int(amount), int(now), ''},
    {'c' .. id .. user, int(now) .. ' c ' .. int(amount) .. ' ' .. user .. to_winner})
end

if ARGV[4] == 'cancel' then
  if ended == 'c' then
    return decided(figures(), waiting('r' .. id))
  end
  if ended ~= '' or now >= expires then
    return no('ended_otherwise')
  end
  local refund = finish('c')
  keep(false)
  return decided(figures(), refund)
end

-- What is due now, the first of it.
if settled then
  redis.call('ZREM', KEYS[8], 'e' .. id)
  return no('nothing')
end
if ended == '' then
  if now < expires then
    return no('nothing')
  end
  local refund = finish('e')
  keep(false)
  return decided({'done'}, refund)
end
if now < claim_by then
  return no('nothing')
end
if unclaimed == 'return' then
  local lapse = taken_amount - claimed_amount
  refunded = refunded + lapse
  leave(lapse)
  tell('l', int(now) .. ' ' .. int(lapse) .. ' ' .. id)
  keep(true)
  return decided({'done'}, {'l' .. id, int(now) .. ' l ' .. int(lapse) .. ' ' .. sender .. to_sender})
end
local effects = {}
local users = redis.call('LRANGE', KEYS[7], credited, credited + CREDIT_MAX - 1)
for _, winner in ipairs(users) do
  local share, grabbed_at, claimed_at = read_win(redis.call('HGET', KEYS[6], winner), opens)
  if not claimed_at then
    local amount = amount_of(share)
    redis.call('HSET', KEYS[6], winner, packed_win(share, opens, grabbed_at, now))
    claimed, claimed_amount = claimed + 1, claimed_amount + amount
    leave(amount)
    tell_win('k', now, share, amount, grabbed_at, id, winner)
    effects[#effects + 1] = 'c' .. id .. winner
    effects[#effects + 1] = int(now) .. ' c ' .. int(amount) .. ' ' .. winner .. to_winner
  end
end
credited = credited + #users
keep(false)
return decided({'done'}, effects)
