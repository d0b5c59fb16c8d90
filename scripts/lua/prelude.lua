-- Every script that decides begins with this.
--
-- KEYS[1]  the bucket's sums, its clock among them
-- ARGV[1]  the caller's time in milliseconds
-- ARGV[2]  'live' or 'test': a test deployment's time is not Redis's
--
-- Numbers are doubles, exact for integers up to 2^53-1, which no amount, time
-- or sum exceeds. They are written with int(), never by way of cjson.

local AMOUNT_MAX = 9007199254740991
local CLOCKS_APART_MS = 2000

local now = tonumber(ARGV[1])
if ARGV[2] == 'live' then
  local time = redis.call('TIME')
  local apart = now - (tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
  if apart > CLOCKS_APART_MS or apart < -CLOCKS_APART_MS then
    return {'clock', string.format('%.0f', apart)}
  end
end

local function int(n)
  return string.format('%.0f', n)
end

-- A bucket's time never goes back, whichever server asks.
local bucket_clock = tonumber(redis.call('HGET', KEYS[1], 'clock') or '0')
if now > bucket_clock then
  redis.call('HSET', KEYS[1], 'clock', int(now))
else
  now = bucket_clock
end

-- Adds to one of the bucket's sums. Of every script's moves the sum of
-- deposited and transit_in is that of withdrawn, transit_out and places;
-- 'transit' is what left for other buckets less what came from them.
local function move(sum, by)
  if by ~= 0 then
    redis.call('HINCRBY', KEYS[1], sum, int(by))
  end
end

-- Enters a movement into a wallet: its row, its balance, and under the effect's
-- id the mark that it has been entered.
local function enter(wallet, effect, at, kind, amount, balance, about)
  local row = redis.call('HINCRBY', wallet, 'rows', 1)
  redis.call('HSET', wallet, 'available', int(balance), int(row),
    int(at) .. ' ' .. kind .. ' ' .. int(amount) .. ' ' .. int(balance) .. ' ' .. about)
  if effect ~= '' then
    redis.call('HSET', wallet, '#' .. effect, int(row))
  end
end

local function available(wallet)
  return tonumber(redis.call('HGET', wallet, 'available') or '0')
end
