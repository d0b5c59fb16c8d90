-- Time and money, for every script that decides.
--
-- KEYS[1]  the bucket's sums, its clock among them
--
-- Numbers are doubles, exact for integers up to 2^53-1, which no amount, time
-- or sum exceeds. They are written with int(), never by way of cjson.

local AMOUNT_MAX = 9007199254740991
local CLOCKS_APART_MS = 2000

local function int(n)
  return string.format('%d', n)
end

-- What is told of a bucket, by its sums: which events, and the number of the last.
local telling = {}

-- What the time is in a bucket, of which it never goes back, whichever server
-- asks; or nothing, and by how much a caller's time is off. `run` keeps what
-- was read for the other calls of the same run.
local function bucket_time(run, sums, asked, mode)
  if mode == 'live' then
    if not run.now then
      local time = redis.call('TIME')
      run.now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    end
    local apart = asked - run.now
    if apart > CLOCKS_APART_MS or apart < -CLOCKS_APART_MS then
      return nil, int(apart)
    end
  end
  local clock = run[sums]
  if not clock then
    local row = redis.call('HMGET', sums, 'clock', 'tells', 'told')
    clock = tonumber(row[1] or '0')
    if row[2] and row[2] ~= '' then
      telling[sums] = {all = row[2] == 'all', last = tonumber(row[3] or '0')}
    end
  end
  if asked > clock then
    redis.call('HSET', sums, 'clock', int(asked))
    clock = asked
  end
  run[sums] = clock
  return clock
end

-- Whether events of a kind are told. Grabs ('g') and new holds ('H') come by the
-- million, and are told only if all are.
local function tells(kind)
  local mine = telling[KEYS[1]]
  return mine and (mine.all or kind ~= 'g' and kind ~= 'H')
end

-- Tells of something that has happened, behind all that happened in the bucket
-- before: it stands among the sums under its number. Not before a script's first
-- look at every key that it may write.
local function tell(kind, words)
  if tells(kind) then
    local mine = telling[KEYS[1]]
    local number = int(mine.last + 1)
    redis.call('HSET', KEYS[1], 'told', number, number, kind .. words)
    mine.last = mine.last + 1
  end
end

-- Adds to one of a bucket's sums. Of every script's moves the sum of deposited
-- and transit_in is that of withdrawn, transit_out and places; 'transit' is
-- what left for other buckets less what came from them.
local function move_in(sums, sum, by)
  if by ~= 0 then
    redis.call('HINCRBY', sums, sum, int(by))
  end
end

local function move(sum, by)
  move_in(KEYS[1], sum, by)
end

-- Enters a movement into a wallet: its row, its balance, and under the effect's
-- id the mark that it has been entered.
local function enter(wallet, effect, at, kind, amount, balance, about)
  local row = int(tonumber(redis.call('HGET', wallet, 'rows') or '0') + 1)
  local text = int(at) .. ' ' .. kind .. ' ' .. int(amount) .. ' ' .. int(balance) .. ' ' .. about
  if effect ~= '' then
    redis.call('HSET', wallet, 'available', int(balance), 'rows', row, row, text, '#' .. effect, row)
  else
    redis.call('HSET', wallet, 'available', int(balance), 'rows', row, row, text)
  end
end

-- A wallet's balance. Asked for before anything is written: if the balance is
-- damaged, or what `enter` reads, it fails here.
local function available(wallet)
  local row = redis.call('HMGET', wallet, 'available', 'rows')
  assert(tonumber(row[2] or '0'), 'how many rows a wallet has is no number')
  return assert(tonumber(row[1] or '0'), 'a balance is no number')
end
