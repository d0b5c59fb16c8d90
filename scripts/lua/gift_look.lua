-- What a step of a gift is decided by: the gift as it stands, what of it waits in
-- the outbox, and the bucket's time. What is decided by it is compared with what
-- stands there by then (gift.lua), so this need not be confirmed.
--
-- KEYS[4]  the bucket's gifts
-- KEYS[5]  to make a gift: the item
-- ARGV[4]  the gift

local id = ARGV[4]
local effects = {}
for _, field in ipairs({'q' .. id, 'b' .. id, 's' .. id, 'v' .. id .. 'g', 'v' .. id .. 'r'}) do
  local effect = redis.call('HGET', KEYS[3], field)
  if effect then
    effects[#effects + 1] = field
    effects[#effects + 1] = effect
  end
end
local answer = {'gift', redis.call('HGET', KEYS[4], id) or ''}
if KEYS[5] then
  local item = redis.call('HMGET', KEYS[5], 'price', 'merchant')
  answer[3], answer[4] = item[1] or '', item[2] or ''
end
return {'new', int(now), answer, effects}
