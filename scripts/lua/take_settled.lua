-- Takes envelopes that were settled long enough ago, to archive them: for a
-- while nobody else does. Who does it all the same does no harm.
--
-- KEYS[1]  the bucket's settled envelopes by time
-- ARGV[1]  settled until then
-- ARGV[2]  how many at most
-- ARGV[3]  as when they count until somebody else takes them
-- ARGV[4]  if only this one, which is not done yet, is taken again

if ARGV[4] then
  redis.call('ZADD', KEYS[1], 'XX', ARGV[3], ARGV[4])
  return {}
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], 'XX', ARGV[3], id)
end
return ids
