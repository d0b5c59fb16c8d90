-- An envelope that is in the archive leaves its bucket, after all that it has
-- elsewhere; who would still fill it is fenced off in the same step.
--
-- KEYS[1]  the bucket's sums
-- KEYS[2]  its fences
-- KEYS[3]  its settled envelopes by time
-- KEYS[4]  all its envelopes by time
-- KEYS[5]  the envelope, then all that it consists of
-- ARGV[1]  the sender's bucket, [2] its generation, [3] the envelope

if redis.call('EXISTS', KEYS[5]) == 1 and redis.call('HGET', KEYS[5], 'settled') ~= '1' then
  return {'unsettled'}
end
raise_fence(KEYS[2], ARGV[1], ARGV[2])
redis.call('UNLINK', unpack(KEYS, 5))
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('ZREM', KEYS[4], ARGV[3])
redis.call('HINCRBY', KEYS[1], 'archived', 1)
return {'left'}
