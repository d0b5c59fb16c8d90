-- Everything but grabs that happens to units of an item, held for a user, paid
-- for or given back.
--
-- KEYS[3]  the bucket's outbox
-- KEYS[4]  to KEYS[9]: see holds.lua
-- KEYS[10] the bucket's orders; of an item whose units are codes with '#' and the place of
--          the first that it was handed
-- ARGV[4]  'pay', 'paid', 'unpaid', 'release' or 'due'
-- ARGV[5]  the item
-- ARGV[6]  the hold
-- ARGV[7]  the user
-- pay, paid, unpaid: ARGV[8] order; paid: ARGV[9] when it was paid

local item, hold_id, user = ARGV[5], ARGV[6], ARGV[7]

if ARGV[4] == 'due' then
  local due = redis.call('ZRANGEBYSCORE', LIVE, '-inf', int(now), 'LIMIT', 0, END_MAX)
  for _, id in ipairs(due) do
    finish(read(id), 'e', now)
  end
  arm(item)
  if #due == 0 then
    return no('nothing')
  end
  return decided({'done'})
end

local hold = read(hold_id)
if not hold then
  return no('not_found')
end

if ARGV[4] == 'paid' then
  if hold.state == 'p' and hold.order == ARGV[8] then
    local merchant, codes, sold = unpack(redis.call('HMGET', ITEM, 'merchant', 'codes', 'sold'))
    finish(hold, 'c', now)
    arm(item)
    local handed = codes == '1' and ' #' .. sold or ''
    redis.call('HSET', KEYS[10], hold.order, hold.id .. int(now) .. ' ' .. merchant .. handed)
    redis.call('HDEL', KEYS[3], 'p' .. hold.order)
    tell('o', int(now) .. ' ' .. int(hold.quantity) .. ' ' .. int(hold.amount) .. ' ' .. merchant .. ' ' .. hold.order ..
      hold.id .. hold.item .. hold.user)
    return decided({'ordered', hold.order, ''}, {'m' .. hold.order, int(now) .. ' m ' .. int(hold.amount) .. ' ' .. merchant})
  end
  return decided({'ordered', ARGV[8], ''}, waiting('m' .. ARGV[8]))
end

if ARGV[4] == 'unpaid' then
  if hold.state == 'p' and hold.order == ARGV[8] then
    redis.call('HDEL', KEYS[3], 'p' .. hold.order)
    redis.call('ZREM', PAYING, hold.id)
    redis.call('ZADD', LIVE, int(hold.expires), hold.id)
    hold.state, hold.order = 'h', NO_ORDER
    write(hold)
    arm(item)
  end
  return decided({'done'})
end

-- A claim or a release.
if hold.user ~= user then
  return no('forbidden')
end
if hold.state == 'c' then
  return decided({'ordered', hold.order, '1'}, waiting('m' .. hold.order))
end
if hold.state == 'r' then
  return decided({'released', '1'})
end
if hold.state == 'e' then
  return no('hold_expired')
end
if hold.state == 'p' then
  return {'new', int(now), {'no', 'unresolved'}, waiting('p' .. hold.order)}
end
if now >= hold.expires then
  return no('hold_expired')
end
if ARGV[4] == 'release' then
  finish(hold, 'r', now)
  arm(item)
  return decided({'released', ''})
end
hold.state, hold.order = 'p', ARGV[8]
write(hold)
redis.call('ZREM', LIVE, hold.id)
redis.call('ZADD', PAYING, int(hold.expires), hold.id)
arm(item)
local payment = {'p' .. hold.order, int(now) .. ' p ' .. int(hold.amount) .. ' ' .. hold.user .. ' ' .. hold.id .. hold.item}
redis.call('HSET', KEYS[3], payment[1], payment[2])
return {'new', int(now), {'paying'}, payment}
