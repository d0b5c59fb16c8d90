-- Makes what holds a funded envelope's shares: a small envelope, a mass
-- envelope's reserve, or one of its pools. First the shares come, in parts of
-- bounded size, then the row over them. Each part and the whole may be done again.
--
-- KEYS[2]  the row
-- KEYS[3]  its shares
-- KEYS[4]  the bucket's fences
-- KEYS[5]  the bucket's envelopes by time; not for a pool
-- KEYS[6]  the bucket's deadlines; not for a pool
-- ARGV[3]  'fill' or 'open'
-- ARGV[4]  the sender's bucket, ARGV[5] its generation when the funding was read
-- fill:    ARGV[6] offset, ARGV[7] bytes
-- open:    ARGV[6] id, [7] bytes of all shares, [8] their amount, [9] created at,
--          [10] expires at, then the row's fields and values

if fenced(KEYS[4], ARGV[4], ARGV[5]) then
  return {'fenced'}
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return {'open'}
end
if ARGV[3] == 'fill' then
  redis.call('SETRANGE', KEYS[3], ARGV[6], ARGV[7])
  return {'filled'}
end
if redis.call('STRLEN', KEYS[3]) ~= tonumber(ARGV[7]) then
  return {'unfilled'}
end
local amount = tonumber(ARGV[8])
redis.call('HSET', KEYS[2], unpack(ARGV, 11))
if KEYS[5] then
  redis.call('ZADD', KEYS[5], '-' .. ARGV[9], ARGV[6])
  redis.call('ZADD', KEYS[6], ARGV[10], 'e' .. ARGV[6])
  tell('c', ARGV[9] .. ' ' .. ARGV[6])
end
move('transit', -amount)
move('escrowed', amount)
return {'open'}
