-- Before what effects left behind may leave Redis: whether they have all
-- arrived, and a new generation of their bucket, which only those have who look
-- into its outbox from now on.
--
-- KEYS[1]  the bucket's sums, its generation among them
-- KEYS[2]  its outbox
-- ARGV     effects' fields; without any, the generation turns
--
-- The answer is those effects that wait, field and value; or the generation.

if #ARGV == 0 then
  return {int(redis.call('HINCRBY', KEYS[1], 'generation', 1))}
end
local waiting = {}
for i, effect in ipairs(redis.call('HMGET', KEYS[2], unpack(ARGV))) do
  if effect then
    waiting[#waiting + 1] = ARGV[i]
    waiting[#waiting + 1] = effect
  end
end
return waiting
