-- An effect that came from another bucket enters a user's: the row of a grab,
-- money, or both. It may come twice; the row under its id says that it came.
--
-- KEYS[2]  the wallet
-- KEYS[3]  the envelopes the user grabbed from
-- KEYS[4]  the bucket's fences
-- ARGV[3]  the effect's id
-- ARGV[4]  the envelope
-- ARGV[5]  when it was caused
-- ARGV[6]  a grab: when it was, or ''
-- ARGV[7]  the kind of money's movement
-- ARGV[8]  the amount, or ''
-- ARGV[9]  the cause's bucket, ARGV[10] its generation when the effect was read

if fenced(KEYS[4], ARGV[9], ARGV[10]) then
  return {'fenced'}
end
if ARGV[6] ~= '' then
  redis.call('ZADD', KEYS[3], '-' .. ARGV[6], ARGV[4])
end
if ARGV[8] ~= '' and redis.call('HEXISTS', KEYS[2], '#' .. ARGV[3]) == 0 then
  local amount = tonumber(ARGV[8])
  enter(KEYS[2], ARGV[3], tonumber(ARGV[5]), ARGV[7], amount, available(KEYS[2]) + amount, ARGV[4])
  move('transit', -amount)
  move('wallets', amount)
end
return {'done'}
