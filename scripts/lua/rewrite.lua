-- Files of Redis are written anew without what was erased: who asks a server for
-- it, and what is done afterwards.
--
-- ARGV[3]  'ask'   KEYS[2] when each server was asked last; ARGV[4] the server,
--                  ARGV[5] how long nobody asks it again: whether it may be asked
--          'done'  KEYS[2] what was erased last in the bucket, ARGV[4] as it was
--                  seen before the files were written

if ARGV[3] == 'ask' then
  local last = tonumber(redis.call('HGET', KEYS[2], ARGV[4]) or '0')
  if last > 0 and now < last + tonumber(ARGV[5]) then
    return {'no'}
  end
  redis.call('HSET', KEYS[2], ARGV[4], int(now))
  return {'ask'}
end
if redis.call('HGET', KEYS[2], 'last') == ARGV[4] then
  redis.call('HDEL', KEYS[2], 'last')
end
return {'done'}
