-- Payouts of a bucket: a row each, one list of all and one of each state that is
-- not the end. Lists run from the oldest on: a place is the time less this, as
-- other lists have times below zero.
local PAYOUTS_FROM = 4503599627370496

-- Where a payout made at this time stands in lists.
local function payout_place(created_at)
  return int(created_at - PAYOUTS_FROM)
end

-- Tells of a payout as it stands from now on: state and kind by their first letters, the lengths of user
-- and reference, then all that has no fixed length.
local function tell_payout(at, state, kind, amount, attempts, created, id, envelope, user, reference, reason)
  if tells('p') then
    local figures = {int(at), string.sub(state, 1, 1) .. string.sub(kind, 1, 1), int(amount), int(attempts), int(created),
      int(#user), int(#reference)}
    tell('p', table.concat(figures, ' ') .. ' ' .. id .. envelope .. user .. reference .. reason)
  end
end

-- Makes a payout, unless it was made before. Its money is then in the bucket.
-- Says whether it did.
local function make_payout(keys, id, at, kind, amount, user, envelope)
  local row, all, due = unpack(keys)
  if redis.call('EXISTS', row) == 1 then
    return false
  end
  redis.call('HSET', row, 'envelope', envelope, 'kind', kind, 'user', user, 'amount', int(amount), 'state', 'due',
    'attempts', '0', 'reference', '', 'reason', '', 'created', int(at), 'changed', int(at))
  redis.call('ZADD', all, payout_place(at), id)
  redis.call('ZADD', due, payout_place(at), id)
  tell_payout(at, 'due', kind, amount, 0, at, id, envelope, user, '', '')
  return true
end
