-- An item's terms and how many units there ever were.
--
-- KEYS[4]  the item
-- KEYS[5]  the bucket's items by time
-- ARGV[4]  'create', 'change' or 'restock'
-- ARGV[5]  the item's id
-- create:  ARGV[6] stock; ARGV[7] when it was asked for, then fields and values
-- change:  ARGV[6] the version that was changed, then fields and values
-- restock: ARGV[6] units to add

local UNITS_MAX = 4294967295

local function shown()
  local row = redis.call('HMGET', KEYS[4], 'terms', 'created', 'total', 'held', 'sold')
  tell('i', int(now) .. ' ' .. row[2] .. ' ' .. row[3] .. ' ' .. ARGV[5] .. row[1])
  return {'item', ARGV[5], unpack(row)}
end

if ARGV[4] == 'create' then
  redis.call('HSET', KEYS[4], 'created', int(now), 'total', ARGV[6], 'held', '0', 'sold', '0', 'version', '1',
    unpack(ARGV, 7))
  redis.call('ZADD', KEYS[5], int(-now), ARGV[5])
  return decided(shown())
end

local row = redis.call('HMGET', KEYS[4], 'version', 'total', 'codes')
if not row[1] then
  return no('not_found')
end
if ARGV[4] == 'change' then
  if row[1] ~= ARGV[6] then
    return no('changed')
  end
  redis.call('HSET', KEYS[4], unpack(ARGV, 7))
  redis.call('HINCRBY', KEYS[4], 'version', 1)
  return decided(shown())
end
if row[3] == '1' then
  return no('stock_is_codes')
end
local quantity, stock = tonumber(ARGV[6]), tonumber(row[2])
if quantity == 0 or stock + quantity > UNITS_MAX then
  return no('units')
end
redis.call('HSET', KEYS[4], 'total', int(stock + quantity))
return decided(shown())
