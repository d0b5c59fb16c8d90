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

-- When, how much, what can be spent afterwards, whose, and the reference.
local function told_words(after)
  return int(now) .. ' ' .. int(amount) .. ' ' .. int(after) .. ' ' .. user .. ' ' .. ARGV[6]
end

if ARGV[4] == 'deposit' then
  local deposited = take_in(amount, tonumber(ARGV[7]))
  if deposited then
    return no('quota', int(deposited))
  end
  enter(wallet, '', now, 'd', amount, balance + amount, ARGV[6])
  move('wallets', amount)
  tell('d', told_words(balance + amount))
  return decided({'wallet', int(balance + amount), user})
end

if amount > balance then
  return no('insufficient_funds')
end
enter(wallet, '', now, 'w', amount, balance - amount, ARGV[6])
move('withdrawn', amount)
move('wallets', -amount)
tell('w', told_words(balance - amount))
return decided({'wallet', int(balance - amount), user})
