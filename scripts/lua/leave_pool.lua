-- A pool of which the archive has every winner, and its envelope, leaves its
-- bucket; who would still fill it is fenced off in the same step.
--
-- KEYS[1]  the bucket's sums
-- KEYS[2]  its fences
-- KEYS[3]  the pool
-- KEYS[4]  its shares
-- KEYS[5]  its winners
-- ARGV[1]  the sender's bucket, [2] its generation

if redis.call('EXISTS', KEYS[3]) == 1 and redis.call('HGET', KEYS[3], 'told') == '' then
  return {'unsettled'}
end
raise_fence(KEYS[2], ARGV[1], ARGV[2])
redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[5])
redis.call('HINCRBY', KEYS[1], 'archived', 1)
return {'left'}
