-- Money in and out of a wallet, from and to the outside.
--
-- KEYS[4]  the wallet
-- ARGV[4]  'deposit' or 'withdraw'
-- ARGV[5]  the amount
-- ARGV[6]  'r' and the reference, or ''
-- ARGV[7]  deposit: what this bucket may take in, in all

local wallet, amount = KEYS[4], tonumber(ARGV[5])
local balance = available(wallet)
local user = string.match(wallet, '}:wallet:(.*)$')

if ARGV[4] == 'deposit' then
  local sums = redis.call('HMGET', KEYS[1], 'deposited', 'quota')
  local deposited = tonumber(sums[1] or '0')
  local quota = math.max(tonumber(sums[2] or '0'), tonumber(ARGV[7]))
  if amount > quota - deposited then
    return no('quota', int(deposited))
  end
  redis.call('HSET', KEYS[1], 'quota', int(quota))
  enter(wallet, '', now, 'd', amount, balance + amount, ARGV[6])
  move('deposited', amount)
  move('wallets', amount)
  return decided({'wallet', int(balance + amount), user})
end

if amount > balance then
  return no('insufficient_funds')
end
enter(wallet, '', now, 'w', amount, balance - amount, ARGV[6])
move('withdrawn', amount)
move('wallets', -amount)
return decided({'wallet', int(balance - amount), user})
