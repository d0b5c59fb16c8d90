-- Transfers between a pool and its envelope's reserve, as the pool sees them.
-- Each has the pool's next sequence number: what comes again finds that it came.
--
-- KEYS[2]  the pool
-- KEYS[3]  its shares
-- ARGV[3]  'take', 'give', 'close', 'lapse', 'report' or 'end'
-- ARGV[4]  the transfer's sequence number; end: how
-- take:    ARGV[5] shares
-- give:    ARGV[5] how many at most
--
-- All but the last answer with a report: the sequence number, what the transfer
-- of that number gave back (how many, their amount, the shares themselves if
-- they go on to another pool), and how many are left.

local row = redis.call('HMGET', KEYS[2], 'width', 'sequence', 'head', 'tail', 'entered', 'taken_amount',
  'claimed_amount', 'given', 'given_amount', 'given_kind', 'told')
if not row[1] then
  return {'absent'}
end
if ARGV[3] == 'end' then
  if row[11] == '' then
    redis.call('HSET', KEYS[2], 'told', ARGV[4])
  end
  return {'done'}
end

local size = row[1] == '4' and 8 or 12
local form = size == 8 and '<I4I4' or '<I4I8'
local sequence, head, tail = tonumber(row[2]), tonumber(row[3]), tonumber(row[4])
local entered, given, given_amount, given_kind = tonumber(row[5]), tonumber(row[8]), tonumber(row[9]), row[10]

local function sum(shares)
  local all = 0
  for at = 1, #shares, size do
    local _, amount = struct.unpack(form, shares, at)
    all = all + amount
  end
  return all
end

-- What the pool gives up is on its way until it is noted.
local function leave(kind, count, amount)
  given, given_amount, given_kind = count, amount, kind
  move('escrowed', -amount)
  move('transit', amount)
end

local verb = ARGV[3]
if verb ~= 'report' and tonumber(ARGV[4]) == sequence + 1 then
  sequence = sequence + 1
  if verb == 'take' then
    redis.call('SETRANGE', KEYS[3], tail * size, ARGV[5])
    local amount = sum(ARGV[5])
    tail, entered = tail + #ARGV[5] / size, entered + amount
    leave('g', 0, 0)
    move('transit', -amount)
    move('escrowed', amount)
    redis.call('HSET', KEYS[2], 'sequence', int(sequence), 'tail', int(tail), 'entered', int(entered),
      'given', '0', 'given_amount', '0', 'given_kind', 'g')
  else
    local fields = {}
    if verb == 'give' then
      local count = math.min(tonumber(ARGV[5]), tail - head)
      tail = tail - count
      leave('r', count, sum(count > 0 and redis.call('GETRANGE', KEYS[3], tail * size, (tail + count) * size - 1) or ''))
      entered = entered - given_amount
    elseif verb == 'close' then
      leave('c', tail - head, entered - tonumber(row[6]))
      tail, entered = head, tonumber(row[6])
      fields = {'closed', '1'}
    else
      leave('l', 0, tonumber(row[6]) - tonumber(row[7]))
      fields = {'lapsed', '1'}
    end
    redis.call('HSET', KEYS[2], 'sequence', int(sequence), 'tail', int(tail), 'entered', int(entered),
      'given', int(given), 'given_amount', int(given_amount), 'given_kind', given_kind, unpack(fields))
  end
end
local shares = ''
if given_kind == 'r' and given > 0 then
  shares = redis.call('GETRANGE', KEYS[3], tail * size, (tail + given) * size - 1)
end
return {'report', int(sequence), int(given), int(given_amount), shares, int(tail - head)}
