-- Makes a funded envelope: first its shares, in parts of bounded size, then
-- the envelope over them. Each part and the whole may be done again.
--
-- KEYS[2]  the envelope
-- KEYS[3]  its shares, 4 or 8 bytes each
-- KEYS[4]  the bucket's envelopes by time
-- KEYS[5]  the bucket's deadlines
-- ARGV[3]  'fill' or 'open'
-- fill:    ARGV[4] offset, ARGV[5] bytes
-- open:    ARGV[4] id, [5] bytes of all shares, [6] total, [7] created at,
--          [8] expires at, then the envelope's fields and values

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
local total = tonumber(ARGV[6])
redis.call('HSET', KEYS[2], 'total', ARGV[6], 'taken', '0', 'taken_amount', '0', 'claimed', '0',
  'claimed_amount', '0', 'refunded', '0', 'credited', '0', 'ended', '', 'settled', '',
  'expires', ARGV[8], unpack(ARGV, 9))
redis.call('ZADD', KEYS[4], '-' .. ARGV[7], ARGV[4])
redis.call('ZADD', KEYS[5], ARGV[8], 'e' .. ARGV[4])
move('transit', -total)
move('escrowed', total)
return {'open'}
