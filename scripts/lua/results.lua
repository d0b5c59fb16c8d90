-- What is told of a bucket's payouts, each result for itself, in order.
--
-- KEYS[4]  payouts that are due, KEYS[5] sent, KEYS[6] failed
-- KEYS[7..] the payout of each result
-- ARGV[4..] of each result: the payout's id, its state now, a reference or '', a reason or ''
--
-- Each is answered by a letter: that of the state; a capital if it stands so and
-- that does not lead to what was told; 'n' if there is no such payout.

local LISTS = {due = KEYS[4], sent = KEYS[5], failed = KEYS[6]}
local LEADS_TO = {
  due = {sent = true, paid = true, failed = true},
  sent = {paid = true, failed = true},
  paid = {},
  failed = {due = true},
}

local function take(key, id, state, reference, reason)
  local row = redis.call('HMGET', key, 'state', 'reference', 'reason', 'attempts', 'amount', 'created', 'kind', 'envelope',
    'user')
  local was = row[1]
  if not was then
    return 'n'
  end
  local letter = string.sub(was, 1, 1)
  local says_no_more = (reference == '' or reference == row[2]) and (reason == '' or reason == row[3])
  if was == state and says_no_more then
    return letter
  end
  if not LEADS_TO[was][state] then
    return string.upper(letter)
  end
  local attempts, amount, place = tonumber(row[4]), tonumber(row[5]), payout_place(tonumber(row[6]))
  local kept, why = row[2], row[3]
  -- A new attempt: what was told of the last one says nothing of it.
  if was == 'due' then
    attempts, kept, why = attempts + 1, '', ''
  end
  kept, why = reference ~= '' and reference or kept, reason ~= '' and reason or why
  redis.call('HSET', key, 'state', state, 'attempts', int(attempts), 'reference', kept, 'reason', why, 'changed', int(now))
  redis.call('ZREM', LISTS[was], id)
  if LISTS[state] then
    redis.call('ZADD', LISTS[state], place, id)
  else
    move('payable', -amount)
    move('paid_out', amount)
  end
  tell_payout(now, state, row[7], amount, attempts, tonumber(row[6]), id, row[8], row[9], kept, why)
  return string.sub(state, 1, 1)
end

local letters = {}
for i = 7, #KEYS do
  local at = 4 + (i - 7) * 4
  letters[#letters + 1] = take(KEYS[i], unpack(ARGV, at, at + 3))
end
return decided({'payouts', table.concat(letters)})
