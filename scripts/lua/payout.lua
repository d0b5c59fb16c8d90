-- Payouts of a bucket: a row each, one list of all and one of each state that is
-- not the end. Lists run from the oldest on: a place is the time less this, as
-- other lists have times below zero.
local PAYOUTS_FROM = 4503599627370496

-- Where a payout made at this time stands in lists.
local function payout_place(created_at)
  return int(created_at - PAYOUTS_FROM)
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
  return true
end
