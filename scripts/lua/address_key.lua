-- A wrapped data key is wrapped with another address key.
--
-- KEYS[1]  the marks of gifts' addresses; KEYS[2] the gift's wrapped data key
-- ARGV[1]  the gift
-- ARGV[2]  its mark as it was seen; ARGV[3] and from now on
-- ARGV[4]  what was wrapped, as it was seen; ARGV[5] and from now on

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] or redis.call('GET', KEYS[2]) ~= ARGV[4] then
  return {'changed'}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[5])
return {'wrapped'}
