-- Reads that change nothing.
--
-- ARGV[1]  'row'     KEYS[1] a hash; ARGV[2..] its fields, or none for all
--          'list'    KEYS[1] a list; ARGV[2] from and ARGV[3] to which place
--          'listed'  KEYS[1] a set ordered by time, the newest first;
--                    ARGV[2] after this score, ARGV[3] and this member, or '' from
--                    the start; ARGV[4], ARGV[5] scores between which; ARGV[6] how many
--          'wins'    KEYS[1] winners in order, KEYS[2] winners, KEYS[3] shares;
--                    ARGV[2] when it opened, ARGV[3] bytes a share, ARGV[4] from, ARGV[5] how many
--          'sales'   KEYS[1] a merchant's entries by time, KEYS[2] the merchant;
--                    ARGV[2], ARGV[3] from and before which time, or ''; ARGV[4] from
--                    which place on, ARGV[5] how many
--          'win'     KEYS[1] winners, KEYS[2] shares; ARGV[2], ARGV[3] the same, ARGV[4] user

-- In the order of bytes, which is that of sets; Lua's own is the locale's.
local function comes_after(one, other)
  for i = 1, #one do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then
      return a > b
    end
  end
  return false
end

local function win(packed, user, shares)
  local width = tonumber(ARGV[3])
  local share, grabbed_at, claimed_at = read_win(packed, tonumber(ARGV[2]))
  local at = share * width
  return {user, int(share), int(grabbed_at), claimed_at and int(claimed_at) or '',
    redis.call('GETRANGE', shares, at, at + width - 1)}
end

local what = ARGV[1]
if what == 'row' then
  if #ARGV == 1 then
    return redis.call('HGETALL', KEYS[1])
  end
  return redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
end

if what == 'list' then
  return redis.call('LRANGE', KEYS[1], ARGV[2], ARGV[3])
end

if what == 'listed' then
  local count = tonumber(ARGV[6])
  local rows = {}
  local from = ARGV[4]
  if ARGV[2] ~= '' then
    -- Those of the same millisecond that come after the member, then the rest.
    local rank = redis.call('ZRANK', KEYS[1], ARGV[3])
    if rank and redis.call('ZSCORE', KEYS[1], ARGV[3]) == ARGV[2] then
      local tail = redis.call('ZRANGE', KEYS[1], rank + 1, rank + count, 'WITHSCORES')
      for i = 1, #tail, 2 do
        local score = tonumber(tail[i + 1])
        if (ARGV[5] == '+inf' or score <= tonumber(ARGV[5])) then
          rows[#rows + 1] = tail[i]
          rows[#rows + 1] = tail[i + 1]
        end
      end
      return rows
    end
    from = '(' .. ARGV[2]
    local same = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[2])
    for _, member in ipairs(same) do
      if comes_after(member, ARGV[3]) and #rows < 2 * count then
        rows[#rows + 1] = member
        rows[#rows + 1] = ARGV[2]
      end
    end
    count = count - #rows / 2
  end
  if count > 0 then
    for _, part in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], from, ARGV[5], 'WITHSCORES', 'LIMIT', 0, count)) do
      rows[#rows + 1] = part
    end
  end
  return rows
end

-- Where the rows begin, where those of the time begin and end, what the merchant is owed and
-- what is pending; the first row of the time and the first behind it, then the rows.
if what == 'sales' then
  local function before(at)
    return redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. at)
  end
  local first = ARGV[2] ~= '' and before(ARGV[2]) or 0
  local last = ARGV[3] ~= '' and before(ARGV[3]) or redis.call('ZCARD', KEYS[1])
  local from = math.max(first, tonumber(ARGV[4]))
  local money = redis.call('HMGET', KEYS[2], 'owed', 'pending')
  local answer = {from, last, money[1] or '0', money[2] or '0'}
  for _, place in ipairs({first, last}) do
    local row = redis.call('ZRANGE', KEYS[1], place, place, 'WITHSCORES')
    answer[#answer + 1] = row[1] or ''
    answer[#answer + 1] = row[2] or ''
  end
  local to = math.min(last, from + tonumber(ARGV[5]))
  if to > from then
    for _, part in ipairs(redis.call('ZRANGE', KEYS[1], from, to - 1, 'WITHSCORES')) do
      answer[#answer + 1] = part
    end
  end
  return answer
end

if what == 'names' then
  return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], '+', 'LIMIT', 0, ARGV[3])
end

if what == 'win' then
  local packed = redis.call('HGET', KEYS[1], ARGV[4])
  return packed and win(packed, ARGV[4], KEYS[2]) or {}
end

local rows = {}
local from = tonumber(ARGV[4])
for _, user in ipairs(redis.call('LRANGE', KEYS[1], from, from + tonumber(ARGV[5]) - 1)) do
  rows[#rows + 1] = win(redis.call('HGET', KEYS[2], user), user, KEYS[3])
end
return rows
