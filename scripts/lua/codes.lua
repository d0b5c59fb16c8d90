-- Puts codes behind those that an item has, all of them or none. They are handed out
-- in their order: the next one is the one behind all that were sold (hold.lua, gift.lua).
--
-- KEYS[4]  the item
-- KEYS[5]  its codes, in order
-- KEYS[6]  by digest, which codes it has had
-- ARGV[4]  the item's id
-- ARGV[5]  a code, ARGV[6] its digest, and so on

local UNITS_MAX = 4294967295

local row = redis.call('HMGET', KEYS[4], 'terms', 'created', 'total', 'held', 'sold', 'codes')
if not row[1] then
  return no('not_found')
end
if row[6] ~= '1' then
  return no('no_codes')
end
local codes, digests = {}, {}
for i = 5, #ARGV, 2 do
  codes[#codes + 1] = ARGV[i]
  digests[#digests + 1] = ARGV[i + 1]
end
for place, had in ipairs(redis.call('SMISMEMBER', KEYS[6], unpack(digests))) do
  if had == 1 then
    return no('known_code', int(place - 1))
  end
end
local total = tonumber(row[3]) + #codes
if total > UNITS_MAX then
  return no('codes')
end
redis.call('LLEN', KEYS[5])
redis.call('SADD', KEYS[6], unpack(digests))
redis.call('RPUSH', KEYS[5], unpack(codes))
redis.call('HSET', KEYS[4], 'total', int(total))
tell('i', int(now) .. ' ' .. row[2] .. ' ' .. int(total) .. ' ' .. ARGV[4] .. row[1])
return decided({'item', ARGV[4], row[1], row[2], int(total), row[4], row[5]})
