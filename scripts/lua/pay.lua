-- Takes a price from a wallet, once for what is paid, or says that this attempt does
-- not pay it, for good: whoever asks again about the same attempt hears the same.
--
-- KEYS[2]  the wallet
-- KEYS[3]  the mark of an attempt that could not pay
-- ARGV[3]  what is paid: an order, which is an attempt of its own, or a gift
-- ARGV[4]  the amount
-- ARGV[5]  how long the mark is kept in milliseconds
-- ARGV[6]  when the payment was begun
-- ARGV[7]  the kind of money's movement
--
-- A payment that is not made after half of that time never is: whoever slept
-- longer than the mark is kept finds that it is too late.

if redis.call('HEXISTS', KEYS[2], '#' .. ARGV[7] .. ARGV[3]) == 1 then
  return {'paid'}
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  return {'unpaid'}
end
if now - tonumber(ARGV[6]) >= tonumber(ARGV[5]) / 2 then
  return {'unpaid'}
end
local amount, balance = tonumber(ARGV[4]), available(KEYS[2])
if amount > balance then
  redis.call('SET', KEYS[3], '1', 'PX', ARGV[5])
  return {'unpaid'}
end
enter(KEYS[2], ARGV[7] .. ARGV[3], now, ARGV[7], amount, balance - amount, ARGV[3])
move('wallets', -amount)
move('transit', amount)
return {'paid'}
