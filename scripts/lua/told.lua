-- What has happened in a bucket, as its sums keep it.
--
-- KEYS[1]  the bucket's sums
-- ARGV[1]  behind which number
-- ARGV[2]  how many at most
--
-- The answer is the number of the oldest that is kept and of the last there is,
-- which events are told, and those asked for.

local row = redis.call('HMGET', KEYS[1], 'told_from', 'told', 'tells')
local from, last = tonumber(row[1] or '1'), tonumber(row[2] or '0')
local answer = {string.format('%d', from), string.format('%d', last), row[3] or ''}
local first = math.max(tonumber(ARGV[1]) + 1, from)
local to = math.min(first + tonumber(ARGV[2]) - 1, last)
if first <= to then
  local numbers = {}
  for number = first, to do
    numbers[#numbers + 1] = string.format('%d', number)
  end
  for _, event in ipairs(redis.call('HMGET', KEYS[1], unpack(numbers))) do
    answer[#answer + 1] = event
  end
end
return answer
