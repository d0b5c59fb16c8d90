-- Grabs of one envelope, all that wait at once, in their order.
--
-- KEYS[2]  the bucket's outbox
-- KEYS[3]  the envelope
-- KEYS[4]  its shares
-- KEYS[5]  its winners: user -> win (win.lua)
-- KEYS[6]  its winners in the order of their shares
-- KEYS[7]  the bucket's deadlines
-- KEYS[8]  the bucket's settled envelopes by time
-- then of each call, if one server has all buckets: the envelopes its user
--          grabbed from, and if a grab claims the user's wallet and the sums of
--          the wallet's bucket
-- then of each call that has one: the mark of its operation
-- ARGV[1]  how many calls there are
-- ARGV[2]  the newest caller's time
-- ARGV[3]  'live' or 'test'
-- ARGV[4]  the envelope's id
-- then of each call: its user, and if it has a mark how long that is kept
--
-- Where one server has all buckets, what a grab causes elsewhere is done in the
-- same step, and nothing has to be carried. Otherwise it goes to the outbox.
--
-- Answers are words with spaces between them, or under a mark what decide.lua
-- says. A run reads and writes once for all its calls what it can. It has looked
-- at everything that is not one user's own before its first write, and at what
-- is before its first write there: a damaged key of one user fails that user's
-- grab, and no other.

local SHARED_KEYS, SHARED_ARGS = 8, 4

local calls, id = tonumber(ARGV[1]), ARGV[4]
local keys_each, args_each = (#KEYS - SHARED_KEYS) / calls, (#ARGV - SHARED_ARGS) / calls
local is_marked = args_each == 2
local crosses = keys_each == (is_marked and 1 or 0)

local run = {}
local now, apart = bucket_time(run, KEYS[1], tonumber(ARGV[2]), ARGV[3])
if not now then
  return clock_is_off(calls, apart)
end
local now_text = int(now)
local newest_first = '-' .. now_text

local row = redis.call('HMGET', KEYS[3], 'opens', 'expires', 'claim_by', 'shares', 'width', 'auto_claim', 'unclaimed',
  'taken', 'taken_amount', 'claimed', 'claimed_amount', 'ended', 'payout')
local opens, expires, claim_by = tonumber(row[1]), tonumber(row[2]), tonumber(row[3])
local shares, width = tonumber(row[4]), tonumber(row[5])
local auto_claim, unclaimed = row[6] == '1', row[7]
local taken, taken_amount = tonumber(row[8]), tonumber(row[9])
local claimed, claimed_amount, ended = tonumber(row[10]), tonumber(row[11]), row[12]
-- A grab that claims and pays outside goes by the outbox, everywhere.
local pays_outside = auto_claim and row[13] == '1'
assert(crosses or not pays_outside, 'a payout has no place in this run')

local users = {}
for call = 1, calls do
  users[call] = ARGV[SHARED_ARGS + (call - 1) * args_each + 1]
end
-- What the run has still to write: winners and their rows, and effects.
local winners, wins, outbox = {}, {}, {}
local won_amounts = {}
-- The same by user.
local written, outgoing = {}, {}

-- The shares that this run may give. Every key that it may write is looked at.
local mine, first, amounts = {}, taken, ''
if row[1] then
  mine = redis.call('HMGET', KEYS[5], unpack(users))
  amounts = redis.call('GETRANGE', KEYS[4], taken * width, (taken + calls) * width - 1)
  assert(#amounts == math.min(calls, shares - taken) * width, 'the shares are not all there')
  redis.call('LLEN', KEYS[6])
  if crosses then
    redis.call('HLEN', KEYS[2])
  end
  if taken + calls >= shares then
    redis.call('ZSCORE', KEYS[7], 'e' .. id)
    redis.call('ZSCORE', KEYS[8], id)
  end
end
local form = width == 4 and 'I4' or 'I8'
local amount_of = {struct.unpack('<' .. string.rep(form, width and #amounts / width or 0), amounts)}

-- The words of a win: amount, share, when grabbed, when claimed, until when to
-- claim, what becomes of it otherwise, whether it was won before, whether its
-- effect waits in the outbox ('x': one that pays outside), and the time now.
local terms = ' ' .. tostring(row[3]) .. ' ' .. tostring(unclaimed) .. ' '
local function won(amount, share, grabbed_at, claimed_at, replayed, waits)
  return 'won ' .. amount .. ' ' .. share .. ' ' .. grabbed_at .. ' ' .. claimed_at .. terms .. replayed .. ' ' .. waits ..
    ' ' .. now_text
end

local waits_as = pays_outside and 'x' or '1'
local function again(packed, user)
  local share, grabbed_at, claimed_at = read_win(packed, opens)
  local at = share * width
  local bytes = redis.call('GETRANGE', KEYS[4], at, at + width - 1)
  local waits = (outgoing[user] or redis.call('HEXISTS', KEYS[2], 'g' .. id .. user) == 1) and waits_as or ''
  return won(int((struct.unpack('<' .. form, bytes))), int(share), int(grabbed_at), claimed_at and int(claimed_at) or '', '1',
    waits)
end

-- What a grab causes where its user's things lie. It fails before its first
-- write, or not at all.
local function arrive(key, amount)
  if not auto_claim then
    redis.call('ZADD', KEYS[key], newest_first, id)
    return
  end
  local list, wallet, sums = KEYS[key], KEYS[key + 1], KEYS[key + 2]
  redis.call('ZSCORE', list, id)
  local balance = available(wallet) + amount
  move_in(sums, 'transit', -amount)
  move_in(sums, 'wallets', amount)
  enter(wallet, 'c' .. id, now, 'c', amount, balance, id)
  redis.call('ZADD', list, newest_first, id)
end

-- The guards stand in the order that the API documents.
local function grab(call, user)
  if not row[1] then
    return 'no not_found'
  end
  local packed = written[user] or mine[call]
  if packed then
    return again(packed, user)
  end
  if ended == 'c' then
    return 'no cancelled'
  end
  if now < opens then
    return 'no not_open ' .. int(opens)
  end
  if taken == shares then
    return 'no sold_out'
  end
  if ended ~= '' or now >= expires then
    return 'no expired'
  end
  local amount = amount_of[taken - first + 1]
  local amount_text, share = int(amount), taken
  if not crosses then
    arrive(SHARED_KEYS + (call - 1) * keys_each + 1, amount)
  end
  local claimed_at, money = '', ''
  taken, taken_amount = taken + 1, taken_amount + amount
  if taken == shares then
    ended = 's'
  end
  if auto_claim then
    claimed_at, money = now_text, amount_text
    claimed, claimed_amount = claimed + 1, claimed_amount + amount
  end
  packed = packed_win(share, opens, now, auto_claim and now or nil)
  written[user] = packed
  won_amounts[#won_amounts + 1] = amount
  winners[#winners + 1] = user
  wins[#wins + 1] = user
  wins[#wins + 1] = packed
  if crosses then
    outgoing[user] = now_text .. ' g ' .. money .. ' ' .. user .. (pays_outside and ' x' or '')
    outbox[#outbox + 1] = 'g' .. id .. user
    outbox[#outbox + 1] = outgoing[user]
  end
  return won(amount_text, int(share), now_text, claimed_at, '', crosses and waits_as or '')
end

-- The effect of a user's grab that waits in the outbox, as decide.lua tells it.
local function waiting(user)
  local field = 'g' .. id .. user
  local effect = outgoing[user] or redis.call('HGET', KEYS[2], field)
  return effect and {field, effect} or {}
end

-- The same under a mark, as decide.lua does it.
local function grab_once(call, user)
  local mark, keep_ms = KEYS[SHARED_KEYS + call * keys_each], ARGV[SHARED_ARGS + call * args_each]
  local told = answered(mark, KEYS[2])
  if told then
    return {told[1], told[2], told[3], told[3] and waiting(user)}
  end
  local answer = words_of(grab(call, user))
  if answer[1] == 'no' then
    return {'new', now_text, answer, {}}
  end
  remember(mark, keep_ms, now_text, answer, {'g' .. id .. user})
  return {'new', now_text, answer, waiting(user)}
end

local answers = answer_each(calls, is_marked and grab_once or grab, users)

if #winners > 0 then
  local settled = ended ~= '' and claimed == taken
  redis.call('HSET', KEYS[5], unpack(wins))
  redis.call('RPUSH', KEYS[6], unpack(winners))
  redis.call('HSET', KEYS[3], 'taken', int(taken), 'taken_amount', int(taken_amount), 'claimed', int(claimed),
    'claimed_amount', int(claimed_amount), 'ended', ended, 'settled', settled and '1' or '')
  local left = claimed_amount - tonumber(row[11])
  move('escrowed', -left)
  move('transit', left)
  if crosses then
    redis.call('HSET', KEYS[2], unpack(outbox))
  end
  set_deadline(KEYS[7], KEYS[8], id, claim_by, ended ~= row[12], settled, now)
  if tells('g') or auto_claim and tells('k') then
    for i, user in ipairs(winners) do
      tell_win('g', now, first + i - 1, won_amounts[i], now, id, user)
      if auto_claim then
        tell_win('k', now, first + i - 1, won_amounts[i], now, id, user)
      end
    end
  end
  if ended ~= row[12] then
    tell('s', now_text .. ' ' .. id)
  end
  if settled then
    tell('t', now_text .. ' s 0 ' .. id)
  end
end
return answers
