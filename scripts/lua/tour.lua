-- What waits in a bucket: deadlines that have passed, effects not known to have
-- arrived.
--
-- KEYS[1]  the bucket's deadlines
-- KEYS[2]  its outbox
-- ARGV[1]  the time
-- ARGV[2]  most of each

local effects = {}
if redis.call('EXISTS', KEYS[2]) == 1 then
  local page = redis.call('HSCAN', KEYS[2], 0, 'COUNT', ARGV[2])
  effects = page[2]
end
return {redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2]), effects}
