-- What a step of an order is decided by: the order as it stands and its hold, what
-- of it waits in the outbox, and the bucket's time. What is decided by it is compared
-- with what stands there by then (order.lua), so this need not be confirmed.
--
-- KEYS[4]  the bucket's orders
-- KEYS[5]  the bucket's holds
-- ARGV[4]  the order

local id = ARGV[4]
local effects = {}
for _, field in ipairs({'m' .. id, 'o' .. id, 'u' .. id}) do
  local effect = redis.call('HGET', KEYS[3], field)
  if effect then
    effects[#effects + 1] = field
    effects[#effects + 1] = effect
  end
end
local row = redis.call('HGET', KEYS[4], id)
local hold = row and redis.call('HGET', KEYS[5], string.sub(row, 1, 16))
return {'new', int(now), {'order', row or '', hold or ''}, effects}
