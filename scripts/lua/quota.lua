-- What a bucket may take in from outside, in all: all deposits together are bounded.

-- Notes money that comes in, or says how much has if that would be too much.
local function take_in(amount, allowed)
  local sums = redis.call('HMGET', KEYS[1], 'deposited', 'quota')
  local deposited = tonumber(sums[1] or '0')
  local quota = math.max(tonumber(sums[2] or '0'), allowed)
  if amount > quota - deposited then
    return deposited
  end
  redis.call('HSET', KEYS[1], 'quota', int(quota))
  move('deposited', amount)
end
