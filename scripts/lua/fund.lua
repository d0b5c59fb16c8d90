-- Takes an envelope's total from its sender's wallet, or in from outside. The envelope
-- itself opens in its own bucket; until it does, all that makes it waits in the outbox.
--
-- KEYS[4]  the sender's wallet
-- KEYS[5]  the envelopes the sender sent
-- ARGV[4]  the envelope's id
-- ARGV[5]  its total
-- ARGV[6]  when it was made
-- ARGV[7]  all that was fixed when it was made
-- KEYS[6]  envelope -> total of those that were funded from outside
-- ARGV[8]  '1' if it comes from outside; ARGV[9] what this bucket may take in, in all
-- KEYS[7]  how many the sender has made in the day, if that is capped
-- ARGV[10] the cap; ARGV[11] the day's first millisecond, ARGV[12] the next one's

-- A count is of no use a day after its own, which has at most 25 hours or so.
local COUNT_KEPT_MS = 3 * 86400000

local wallet, total = KEYS[4], tonumber(ARGV[5])
local made
if KEYS[7] then
  -- What is archived has left the list; what was made where there was no cap was not counted.
  local listed = redis.call('ZCOUNT', KEYS[5], '(-' .. ARGV[12], '-' .. ARGV[11])
  made = math.max(tonumber(redis.call('GET', KEYS[7]) or '0'), listed) + 1
  if made > tonumber(ARGV[10]) then
    return no('creates')
  end
end
if ARGV[8] == '1' then
  local deposited = take_in(total, tonumber(ARGV[9]))
  if deposited then
    return no('quota', int(deposited))
  end
  redis.call('HSET', KEYS[6], ARGV[4], int(total))
else
  local balance = available(wallet)
  if total > balance then
    return no('insufficient_funds')
  end
  enter(wallet, 'f' .. ARGV[4], now, 'f', total, balance - total, ARGV[4])
  move('wallets', -total)
end
move('transit', total)
redis.call('ZADD', KEYS[5], '-' .. ARGV[6], ARGV[4])
if made then
  redis.call('SET', KEYS[7], int(made), 'PX', int(COUNT_KEPT_MS))
end
return decided({'created', ARGV[4], ARGV[6]}, {'f' .. ARGV[4], ARGV[7]})
