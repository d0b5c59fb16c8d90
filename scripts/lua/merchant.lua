-- A merchant, and what it is owed.
--
-- KEYS[4]  the merchant
-- KEYS[5]  the orders it is owed for
-- KEYS[6]  the bucket's merchants by their ids
-- ARGV[4]  'put' or 'owe'
-- put:     ARGV[5] name; ARGV[6] status, or '' for the one it has; ARGV[7] who
--          checks its papers if they are checked with this, and ARGV[8] under which
--          reference; ARGV[9] '1' if that was said
-- owe:     ARGV[5] order, ARGV[6] amount
--
-- What a merchant becomes stands in merchant.rs.

if ARGV[4] == 'put' then
  local id = string.match(KEYS[4], '}:merchant:(.*)$')
  local row = redis.call('HMGET', KEYS[4], 'status', 'by', 'reference', 'checked', 'turn')
  local was, by, reference, checked = row[1], row[2] or '', row[3] or '', row[4] or ''
  local status = ARGV[6] ~= '' and ARGV[6] or was or 'pending'
  if status == 'pending' then
    by, reference, checked = '', '', ''
  elseif status == 'verified' and ARGV[6] ~= '' and (ARGV[9] == '1' or was ~= status or checked == '') then
    by, reference, checked = ARGV[7], ARGV[8], int(now)
  end
  local effects = {}
  -- A new one has no items, and one that was always verified, or not yet, is kept from nothing.
  if was and was ~= status and (status ~= 'verified' or row[5]) then
    local turn = int(tonumber(row[5] or '0') + 1)
    redis.call('HSET', KEYS[4], 'turn', turn)
    -- Under its turn: one that arrives takes no later one out of the outbox.
    effects = {'k' .. id .. ' ' .. turn, int(now) .. ' k ' .. turn .. ' ' .. id .. ' ' .. status}
  end
  redis.call('HSET', KEYS[4], 'name', ARGV[5], 'status', status, 'by', by, 'reference', reference, 'checked', checked)
  redis.call('ZADD', KEYS[6], 0, id)
  tell('m', table.concat({int(now), status, id, checked ~= '' and checked or '0', int(#by), int(#reference)}, ' ') .. ' ' ..
    by .. reference .. ARGV[5])
  return decided({'merchant', status, id, ARGV[5], by, reference, checked}, effects)
end
if redis.call('HSETNX', KEYS[5], ARGV[5], ARGV[6]) == 1 then
  local amount = tonumber(ARGV[6])
  redis.call('HINCRBY', KEYS[4], 'owed', ARGV[6])
  move('transit', -amount)
  move('merchants', amount)
end
return decided({'done'})
