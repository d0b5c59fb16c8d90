-- A user grabs from the pool of a mass envelope that lies in the user's bucket.
-- The guards stand in the order that the API documents.

if mine then
  local share, amount = share_at(struct.unpack('<I4', mine))
  local grabbed_at, claimed_at = times_of(mine)
  return decided({'won', int(amount), int(share), int(grabbed_at), claimed_at and int(claimed_at) or '', row[3],
    unclaimed, '1', ''})
end
local told = row[13]
if told == 'c' then
  return no('cancelled')
end
if now < tonumber(row[1]) then
  return no('not_open', row[1])
end
if told == 's' then
  return no('sold_out')
end
local head, tail = tonumber(row[8]), tonumber(row[9])
if told == 'e' then
  return no('expired')
end
if now >= tonumber(row[2]) then
  -- Without a share here it may be sold out: whoever ends it finds out.
  return no(head < tail and 'expired' or 'ending')
end
if row[14] == '1' then
  return no('closing')
end
if head == tail then
  return no('empty')
end
local share, amount = share_at(head)
local filled, left = tonumber(row[16]), tail - head - 1
local balance = auto_claim and available(KEYS[8])
-- First what has not been read yet: if that is damaged, nothing was done.
redis.call('ZADD', KEYS[7], '-' .. int(now), id)
redis.call('HSET', KEYS[6], user, struct.pack('<I4I5', head, math.max(now - base, 0)))
local taken_amount = int(tonumber(row[10]) + amount)
if auto_claim then
  redis.call('HSET', KEYS[4], 'head', int(head + 1), 'taken_amount', taken_amount, 'claimed', int(head + 1),
    'claimed_amount', taken_amount)
  credit(amount, balance)
else
  redis.call('HSET', KEYS[4], 'head', int(head + 1), 'taken_amount', taken_amount)
end
-- Once below a quarter of its filling, more is asked for, without anybody waiting.
local wanted = left * 4 < filled and left * 4 + 4 >= filled and int(math.ceil(filled / 4)) or ''
return decided({'won', int(amount), int(share), int(now), auto_claim and int(now) or '', row[3], unclaimed, '', wanted})
