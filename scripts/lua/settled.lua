-- Takes effects out of an outbox that other buckets are known to have.
--
-- KEYS[1]  the outbox
-- ARGV     the effects' fields

redis.call('HDEL', KEYS[1], unpack(ARGV))
return {'done'}
