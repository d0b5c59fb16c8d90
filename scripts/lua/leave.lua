-- Rows of an envelope that are in the archive leave a user's bucket, and in the
-- same step whoever carries what made them is fenced off.
--
-- KEYS[1]  the bucket's sums
-- KEYS[2]  its fences
-- KEYS[3]  the wallet
-- KEYS[4]  the list that the envelope is in: what the user received, or sent
-- ARGV[1]  the envelope's bucket, [2] its generation, [3] the envelope
-- then of each movement: its mark, or '' if it has none, and its number

raise_fence(KEYS[2], ARGV[1], ARGV[2])
redis.call('ZREM', KEYS[4], ARGV[3])
for i = 4, #ARGV, 2 do
  if ARGV[i] == '' then
    redis.call('HDEL', KEYS[3], ARGV[i + 1])
  elseif redis.call('HGET', KEYS[3], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[3], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HINCRBY', KEYS[1], 'archived', 1)
return {'done'}
