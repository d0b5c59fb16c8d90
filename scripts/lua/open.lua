-- Makes what holds a funded envelope's shares: a small envelope, a mass
-- envelope's reserve, or one of its pools. First the shares come, in parts of
-- bounded size, then the row over them. Each part and the whole may be done again.
--
-- KEYS[2]  the row
-- KEYS[3]  its shares
-- KEYS[4]  the bucket's envelopes by time; not for a pool
-- KEYS[5]  the bucket's deadlines; not for a pool
-- ARGV[3]  'fill' or 'open'
-- fill:    ARGV[4] offset, ARGV[5] bytes
-- open:    ARGV[4] id, [5] bytes of all shares, [6] their amount, [7] created at,
--          [8] expires at, then the row's fields and values

if redis.call('EXISTS', KEYS[2]) == 1 then
  return {'open'}
end
if ARGV[3] == 'fill' then
  redis.call('SETRANGE', KEYS[3], ARGV[4], ARGV[5])
  return {'filled'}
end
if redis.call('STRLEN', KEYS[3]) ~= tonumber(ARGV[5]) then
  return {'unfilled'}
end
local amount = tonumber(ARGV[6])
redis.call('HSET', KEYS[2], unpack(ARGV, 9))
if KEYS[4] then
  redis.call('ZADD', KEYS[4], '-' .. ARGV[7], ARGV[4])
  redis.call('ZADD', KEYS[5], ARGV[8], 'e' .. ARGV[4])
end
move('transit', -amount)
move('escrowed', amount)
return {'open'}
