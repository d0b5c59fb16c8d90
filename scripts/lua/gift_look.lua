-- What a step of a gift is decided by: the gift as it stands, what of it waits in
-- the outbox, and the bucket's time. What is decided by it is compared with what
-- stands there by then (gift.lua), so this need not be confirmed.
--
-- KEYS[4]  the bucket's gifts
-- KEYS[5]  the marks of gifts' addresses; KEYS[6] their sealed texts; KEYS[7] this gift's
--          wrapped data key
-- KEYS[8]  to make a gift: the item
-- ARGV[4]  the gift
-- ARGV[5]  '1' to read its address as well

local id = ARGV[4]
local effects = {}
for _, field in ipairs({'q' .. id, 'b' .. id, 's' .. id, 'v' .. id .. 'g', 'v' .. id .. 'r'}) do
  local effect = redis.call('HGET', KEYS[3], field)
  if effect then
    effects[#effects + 1] = field
    effects[#effects + 1] = effect
  end
end
local answer = {'gift', redis.call('HGET', KEYS[4], id) or '', redis.call('HGET', KEYS[5], id) or '', '', '', '', ''}
if ARGV[5] == '1' then
  answer[4], answer[5] = redis.call('HGET', KEYS[6], id) or '', redis.call('GET', KEYS[7]) or ''
end
if KEYS[8] then
  local item = redis.call('HMGET', KEYS[8], 'price', 'merchant')
  answer[6], answer[7] = item[1] or '', item[2] or ''
end
return {'new', int(now), answer, effects}
