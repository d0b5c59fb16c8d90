-- A merchant, and what it is owed.
--
-- KEYS[4]  the merchant
-- KEYS[5]  the orders it is owed for
-- ARGV[4]  'put' or 'owe'
-- put:     ARGV[5] name; ARGV[6] status, or '' for the one it has
-- owe:     ARGV[5] order, ARGV[6] amount

if ARGV[4] == 'put' then
  local status = ARGV[6]
  if status == '' then
    status = redis.call('HGET', KEYS[4], 'status') or 'pending'
  end
  redis.call('HSET', KEYS[4], 'name', ARGV[5], 'status', status)
  return decided({'merchant', status, string.match(KEYS[4], '}:merchant:(.*)$'), ARGV[5]})
end
if redis.call('HSETNX', KEYS[5], ARGV[5], ARGV[6]) == 1 then
  local amount = tonumber(ARGV[6])
  redis.call('HINCRBY', KEYS[4], 'owed', ARGV[6])
  move('transit', -amount)
  move('merchants', amount)
end
return decided({'done'})
