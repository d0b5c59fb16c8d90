-- Grabs from the pool of a mass envelope, all that wait at once, in their order,
-- by users of the pool's bucket. What a grab causes lies there, too, so nothing
-- has to be carried.
--
-- KEYS[2]  the pool
-- KEYS[3]  its shares, number and amount each, in the order in which they came:
--          those before 'head' are won, those from 'tail' on are gone
-- KEYS[4]  its winners: user -> win (win.lua), by its place among the shares
-- then of each call: the envelopes its user grabbed from; if a grab claims the
--          user's wallet, and if it may pay outside its payout, all payouts and
--          those that are due; and if it has one the mark of its operation
-- ARGV[1]  how many calls there are
-- ARGV[2]  the newest caller's time
-- ARGV[3]  'live' or 'test'
-- ARGV[4]  the envelope's id
-- then of each call: its user; if a grab claims and may pay outside its payout's id;
--          and if it has a mark how long that is kept
--
-- Answers are words with spaces between them, or under a mark what decide.lua
-- says. A run reads and writes once for all its calls what it can. It has looked
-- at everything that is not one user's own before its first write, and at what
-- is before its first write there.

local SHARED_KEYS, SHARED_ARGS = 4, 4

local calls, id = tonumber(ARGV[1]), ARGV[4]
local keys_each, args_each = (#KEYS - SHARED_KEYS) / calls, (#ARGV - SHARED_ARGS) / calls
-- The id's third byte says what may be: see `EnvelopeId`.
local flags = string.byte(id, 3)
local may_pay_outside = flags % 2 == 1 and math.floor(flags / 4) % 2 == 1
local is_marked = args_each == (may_pay_outside and 3 or 2)

local run = {}
local now, apart = bucket_time(run, KEYS[1], tonumber(ARGV[2]), ARGV[3])
if not now then
  return clock_is_off(calls, apart)
end
local now_text = int(now)

local row = redis.call('HMGET', KEYS[2], 'opens', 'expires', 'width', 'auto_claim', 'base', 'head', 'tail',
  'taken_amount', 'filled', 'told', 'closed', 'claim_by', 'unclaimed', 'payout')
local opens, expires, base = tonumber(row[1]), tonumber(row[2]), tonumber(row[5])
local size, form = 8, '<I4I4'
if row[3] == '8' then
  size, form = 12, '<I4I8'
end
local auto_claim, first, tail = row[4] == '1', tonumber(row[6]), tonumber(row[7])
local filled, told, is_closed = tonumber(row[9]), row[10], row[11] == '1'
local head, taken_amount = first, tonumber(row[8])
local pays_outside = row[14] == '1'

local users, winners, wins, written = {}, 0, {}, {}
local tells_wins = tells('g') or auto_claim and tells('k')
local told_wins = {}
for call = 1, calls do
  users[call] = ARGV[SHARED_ARGS + (call - 1) * args_each + 1]
end

-- The shares that this run may give, and what its users have.
local mine, shares = {}, ''
if row[1] then
  mine = redis.call('HMGET', KEYS[4], unpack(users))
  local last = math.min(first + calls, tail)
  if last > first then
    shares = redis.call('GETRANGE', KEYS[3], first * size, last * size - 1)
    assert(#shares == (last - first) * size, 'the shares are not all there')
  end
end

-- The words of a win: amount, share, when grabbed, when claimed, until when to
-- claim, what becomes of it otherwise, whether it was won before, how many shares
-- the pool asks for, and the time now.
local terms = ' ' .. tostring(row[12]) .. ' ' .. tostring(row[13]) .. ' '
local function won(amount, share, grabbed_at, claimed_at, replayed, wanted)
  return 'won ' .. int(amount) .. ' ' .. int(share) .. ' ' .. int(grabbed_at) .. ' ' ..
    (claimed_at and int(claimed_at) or '') .. terms .. replayed .. ' ' .. wanted .. ' ' .. now_text
end

-- The guards stand in the order that the API documents.
local function grab(call, user)
  if not row[1] then
    return 'no not_found'
  end
  local packed = written[user] or mine[call]
  if packed then
    local place, grabbed_at, claimed_at = read_win(packed, base)
    local share, amount = struct.unpack(form, redis.call('GETRANGE', KEYS[3], place * size, place * size + size - 1))
    return won(amount, share, grabbed_at, claimed_at, '1', '')
  end
  if told == 'c' then
    return 'no cancelled'
  end
  if now < opens then
    return 'no not_open ' .. int(opens)
  end
  if told == 's' then
    return 'no sold_out'
  end
  if told == 'e' then
    return 'no expired'
  end
  if now >= expires then
    -- Without a share here it may be sold out: whoever ends it finds out.
    return head < tail and 'no expired' or 'no ending'
  end
  if is_closed then
    return 'no closing'
  end
  if head == tail then
    return 'no empty'
  end
  local share, amount = struct.unpack(form, shares, (head - first) * size + 1)
  local key = SHARED_KEYS + (call - 1) * keys_each + 1
  local list, wallet = KEYS[key], KEYS[key + 1]
  if auto_claim then
    redis.call('ZSCORE', list, id)
    if pays_outside then
      make_payout({unpack(KEYS, key + 2, key + 4)}, ARGV[SHARED_ARGS + (call - 1) * args_each + 2], now, 'win', amount, user,
        id)
    else
      enter(wallet, 'c' .. id, now, 'c', amount, available(wallet) + amount, id)
    end
  end
  redis.call('ZADD', list, '-' .. now_text, id)
  local grabbed_at = math.max(now, base)
  packed = packed_win(head, base, grabbed_at, auto_claim and grabbed_at or nil)
  written[user] = packed
  winners = winners + 1
  if tells_wins then
    told_wins[#told_wins + 1] = {share, amount, user}
  end
  wins[2 * winners - 1] = user
  wins[2 * winners] = packed
  head, taken_amount = head + 1, taken_amount + amount
  -- Once below a quarter of its filling, more is asked for, without anybody waiting.
  local left = tail - head
  local wanted = left * 4 < filled and left * 4 + 4 >= filled and int(math.ceil(filled / 4)) or ''
  return won(amount, share, now, auto_claim and now, '', wanted)
end

-- The same under a mark, as decide.lua does it. Nothing waits in the outbox.
local function grab_once(call, user)
  local mark, keep_ms = KEYS[SHARED_KEYS + call * keys_each], ARGV[SHARED_ARGS + call * args_each]
  local before = answered(mark)
  if before then
    return before
  end
  local answer = words_of(grab(call, user))
  if answer[1] ~= 'no' then
    remember(mark, keep_ms, now_text, answer, {})
  end
  return {'new', now_text, answer, {}}
end

local answers = answer_each(calls, is_marked and grab_once or grab, users)

if winners > 0 then
  redis.call('HSET', KEYS[4], unpack(wins))
  if auto_claim then
    redis.call('HSET', KEYS[2], 'head', int(head), 'taken_amount', int(taken_amount), 'claimed', int(head),
      'claimed_amount', int(taken_amount))
    local credited = taken_amount - tonumber(row[8])
    move('escrowed', -credited)
    move(pays_outside and 'payable' or 'wallets', credited)
  else
    redis.call('HSET', KEYS[2], 'head', int(head), 'taken_amount', int(taken_amount))
  end
  for _, win in ipairs(told_wins) do
    tell_win('g', now, win[1], win[2], now, id, win[3])
    if auto_claim then
      tell_win('k', now, win[1], win[2], now, id, win[3])
    end
  end
end
return answers
