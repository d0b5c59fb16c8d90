-- Whether a merchant may sell the items of this bucket, as its own bucket has
-- decided. It may come twice, and behind what was decided later.
--
-- KEYS[1]  merchants that have been kept from selling
-- ARGV[1]  the merchant
-- ARGV[2]  how often its status has changed; the highest counts
-- ARGV[3]  its status

local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or tonumber(string.match(known, '^%d+')) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
end
return {'done'}
