-- Says which of a bucket's events are told from now on, and forgets what need not
-- be kept any more of those that were.
--
-- KEYS[1]  the bucket's sums
-- ARGV[1]  '', 'usual' or 'all'
-- ARGV[2]  forget what is older than then
-- ARGV[3]  how many are kept at most
--
-- The answer is whether there may be more to forget.

-- Events looked at at a time.
local LOOKED_AT_MAX = 500

local row = redis.call('HMGET', KEYS[1], 'tells', 'told_from', 'told')
if (row[1] or '') ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'tells', ARGV[1])
end
local from, last = tonumber(row[2] or '1'), tonumber(row[3] or '0')
local numbers = {}
for number = from, math.min(from + LOOKED_AT_MAX - 1, last) do
  numbers[#numbers + 1] = string.format('%d', number)
end
if #numbers == 0 then
  return {''}
end
local before, kept_max = tonumber(ARGV[2]), tonumber(ARGV[3])
local old = {}
for i, event in ipairs(redis.call('HMGET', KEYS[1], unpack(numbers))) do
  local at = event and tonumber(string.match(event, '^.(%d+)'))
  if at and at >= before and last - (from + i - 1) < kept_max then
    break
  end
  old[i] = numbers[i]
end
if #old > 0 then
  redis.call('HSET', KEYS[1], 'told_from', string.format('%d', from + #old))
  redis.call('HDEL', KEYS[1], unpack(old))
end
return {#old == LOOKED_AT_MAX and '1' or ''}
