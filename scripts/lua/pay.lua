-- Takes an order's price from a wallet, once, or says that it cannot be paid,
-- for good: whoever asks again about the same order hears the same.
--
-- KEYS[2]  the wallet
-- KEYS[3]  the mark of an order that could not be paid
-- ARGV[3]  the order
-- ARGV[4]  the amount
-- ARGV[5]  how long the mark is kept in milliseconds
-- ARGV[6]  when the payment was begun
--
-- A payment that is not made after half of that time never is: whoever slept
-- longer than the mark is kept finds that it is too late.

if redis.call('HEXISTS', KEYS[2], '#o' .. ARGV[3]) == 1 then
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
enter(KEYS[2], 'o' .. ARGV[3], now, 'o', amount, balance - amount, ARGV[3])
move('wallets', -amount)
move('transit', amount)
return {'paid'}
