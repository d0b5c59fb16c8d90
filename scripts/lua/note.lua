-- A server's note.
--
-- KEYS[1]  name -> version of 8 bytes, and text
-- ARGV[1]  name
-- ARGV[2]  the version it stands in, or '' if it is not there
-- ARGV[3]  its new version and text, or '' to remove it

local row = redis.call('HGET', KEYS[1], ARGV[1])
local stands = row and string.sub(row, 1, 8) or ''
-- A call that came again finds what it did.
if stands == string.sub(ARGV[3], 1, 8) then
  return {'put'}
end
if stands ~= ARGV[2] then
  return {'other'}
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return {'put'}
