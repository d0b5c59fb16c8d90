-- What waits in a bucket: deadlines that have passed, effects not known to have
-- arrived, settled envelopes that may be archived; how many payouts have no end;
-- and whether files may have what was erased.
--
-- KEYS[1]  the bucket's deadlines
-- KEYS[2]  its outbox
-- KEYS[3]  its settled envelopes by time
-- KEYS[4]  its payouts that are due; KEYS[5] those sent; KEYS[6] those failed
-- KEYS[7]  what was erased last, as long as files may have it
-- ARGV[1]  the time
-- ARGV[2]  most of each
-- ARGV[3]  archive what was settled until then, or ''

local effects = {}
if redis.call('EXISTS', KEYS[2]) == 1 then
  local page = redis.call('HSCAN', KEYS[2], 0, 'COUNT', ARGV[2])
  effects = page[2]
end
local settled = ARGV[3] ~= '' and redis.call('ZCOUNT', KEYS[3], '-inf', ARGV[3]) or 0
return {redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2]), effects, settled,
  redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[6]), redis.call('EXISTS', KEYS[7])}
