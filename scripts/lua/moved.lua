-- Movements of a wallet, by their marks, and with each the deposits and withdrawals
-- that stand before it: whoever archives takes them along.
--
-- KEYS[1]  the wallet
-- ARGV     marks
--
-- The answer is mark, number and row of each that is there; deposits and
-- withdrawals have no mark.

-- Movements looked at before each.
local BEFORE_MAX = 64

local found = {}
local function add(mark, number, row)
  found[#found + 1] = mark
  found[#found + 1] = number
  found[#found + 1] = row
end

for i, number in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do
  local row = number and redis.call('HGET', KEYS[1], number)
  if row then
    add(ARGV[i], number, row)
    for before = tonumber(number) - 1, math.max(tonumber(number) - BEFORE_MAX, 1), -1 do
      row = redis.call('HGET', KEYS[1], int(before))
      local kind = row and string.match(row, '^%d+ (%a)')
      if kind == 'd' or kind == 'w' then
        add('', int(before), row)
      elseif kind ~= 'o' and kind ~= 'u' and kind ~= 'g' and kind ~= 'b' then
        -- Payments of orders and gifts, and what came back of them, stay. What belongs to an
        -- envelope leaves with that; before what has left all has.
        break
      end
    end
  end
end
return found
