-- An effect that came from another bucket becomes a payout in a user's: a share that
-- was claimed, or what goes back to a sender. It may come twice; the payout under
-- its id says that it came.
--
-- KEYS[2]  the payout, KEYS[3] all payouts, KEYS[4] those that are due
-- KEYS[5]  the envelopes the user grabbed from
-- KEYS[6]  the bucket's fences
-- ARGV[3]  the payout's id
-- ARGV[4]  the envelope
-- ARGV[5]  when it was caused
-- ARGV[6]  a grab: when it was, or ''
-- ARGV[7]  'win' or 'refund'
-- ARGV[8]  the amount
-- ARGV[9]  the user
-- ARGV[10] the cause's bucket, ARGV[11] its generation when the effect was read

if fenced(KEYS[6], ARGV[10], ARGV[11]) then
  return {'fenced'}
end
if ARGV[6] ~= '' then
  redis.call('ZADD', KEYS[5], '-' .. ARGV[6], ARGV[4])
end
local amount = tonumber(ARGV[8])
if make_payout({KEYS[2], KEYS[3], KEYS[4]}, ARGV[3], tonumber(ARGV[5]), ARGV[7], amount, ARGV[9], ARGV[4]) then
  move('transit', -amount)
  move('payable', amount)
end
return {'done'}
