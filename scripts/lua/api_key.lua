-- API keys, in bucket 0.
--
-- KEYS[4]  id -> key; and 'version': how often one was made or deleted
-- KEYS[5]  id -> key that was deleted
-- ARGV[4]  'create' or 'delete'
-- ARGV[5]  id
-- create:  ARGV[6] the key
-- delete:  ARGV[6] the key as a deleted one, or '' if it was not found

if ARGV[4] == 'create' then
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[6])
  redis.call('HINCRBY', KEYS[4], 'version', 1)
  return decided({'api_key', ARGV[6]})
end

if ARGV[6] ~= '' and redis.call('HDEL', KEYS[4], ARGV[5]) == 1 then
  redis.call('HSET', KEYS[5], ARGV[5], ARGV[6])
  redis.call('HINCRBY', KEYS[4], 'version', 1)
end
local deleted = redis.call('HGET', KEYS[5], ARGV[5])
if deleted then
  return decided({'api_key', deleted})
end
return no('not_found')
