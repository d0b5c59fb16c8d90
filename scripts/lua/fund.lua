-- Takes an envelope's total from its sender's wallet. The envelope itself opens
-- in its own bucket; until it does, all that makes it waits in the outbox.
--
-- KEYS[4]  the sender's wallet
-- KEYS[5]  the envelopes the sender sent
-- ARGV[4]  the envelope's id
-- ARGV[5]  its total
-- ARGV[6]  when it was made
-- ARGV[7]  all that was fixed when it was made

local wallet, total = KEYS[4], tonumber(ARGV[5])
local balance = available(wallet)
if total > balance then
  return no('insufficient_funds')
end
enter(wallet, 'f' .. ARGV[4], now, 'f', total, balance - total, ARGV[4])
move('wallets', -total)
move('transit', total)
redis.call('ZADD', KEYS[5], '-' .. ARGV[6], ARGV[4])
return decided({'created', ARGV[4], ARGV[6]}, {'f' .. ARGV[4], ARGV[7]})
