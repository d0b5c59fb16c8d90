-- A user claims what was grabbed from a pool; the wallet lies in the same bucket.

if not mine then
  return no('not_won')
end
local place = struct.unpack('<I4', mine)
local _, amount = share_at(place)
local grabbed_at, claimed_at = times_of(mine)
if claimed_at then
  return decided({'claimed', int(amount), int(claimed_at), '1'})
end
if row[15] == '1' or unclaimed == 'return' and now >= claim_by then
  return no('lapsed')
end
local balance = available(KEYS[8])
redis.call('HSET', KEYS[6], user, struct.pack('<I4I5I5', place, grabbed_at - base, math.max(now - base, 0)))
redis.call('HSET', KEYS[4], 'claimed', int(tonumber(row[11]) + 1), 'claimed_amount', int(tonumber(row[12]) + amount))
credit(amount, balance)
return decided({'claimed', int(amount), int(now), ''})
