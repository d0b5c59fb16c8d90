-- A user claims what was grabbed from a pool; the wallet lies in the same bucket.
--
-- KEYS[4]  the pool
-- KEYS[5]  its shares, number and amount each, in the order in which they came
-- KEYS[6]  its winners: user -> win (win.lua), by its place among the shares
-- KEYS[7]  the user's wallet
-- KEYS[8]  the payout of the claim, KEYS[9] all payouts, KEYS[10] those that are due
-- ARGV[4]  the envelope's id
-- ARGV[5]  the user
-- ARGV[6]  the payout's id

local row = redis.call('HMGET', KEYS[4], 'claim_by', 'width', 'unclaimed', 'base', 'claimed', 'claimed_amount', 'lapsed',
  'payout')
if not row[1] then
  return no('not_found')
end
local id, user, base = ARGV[4], ARGV[5], tonumber(row[4])
local mine = redis.call('HGET', KEYS[6], user)
if not mine then
  return no('not_won')
end
local place, grabbed_at, claimed_at = read_win(mine, base)
local size = row[2] == '4' and 8 or 12
local share, amount = struct.unpack(size == 8 and '<I4I4' or '<I4I8',
  redis.call('GETRANGE', KEYS[5], place * size, place * size + size - 1))
if claimed_at then
  return decided({'claimed', int(amount), int(claimed_at), '1'})
end
if row[7] == '1' or row[3] == 'return' and now >= tonumber(row[1]) then
  return no('lapsed')
end
-- First what has not been read yet: if that is damaged, nothing was done.
local pays_outside = row[8] == '1'
local balance = pays_outside and 0 or available(KEYS[7]) + amount
redis.call('HSET', KEYS[6], user, packed_win(place, base, grabbed_at, math.max(now, base)))
redis.call('HSET', KEYS[4], 'claimed', int(tonumber(row[5]) + 1), 'claimed_amount', int(tonumber(row[6]) + amount))
-- Escrow becomes the user's own, or is owed outside.
if pays_outside then
  make_payout({KEYS[8], KEYS[9], KEYS[10]}, ARGV[6], now, 'win', amount, user, id)
else
  enter(KEYS[7], 'c' .. id, now, 'c', amount, balance, id)
end
move('escrowed', -amount)
move(pays_outside and 'payable' or 'wallets', amount)
tell_win('k', now, share, amount, grabbed_at, id, user)
return decided({'claimed', int(amount), int(now), ''})
