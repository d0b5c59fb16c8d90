-- Fixes a deployment's settings at its first start and tells them at every one.
--
-- KEYS[1]  the deployment
-- ARGV     names and values

for i = 1, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
end
return redis.call('HGETALL', KEYS[1])
