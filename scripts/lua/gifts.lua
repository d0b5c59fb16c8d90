-- Gifts of an item, for every script that has to know of them.
--
-- GIFTS  the item's gifts that have a unit set aside: the gift's id and its giver,
--        by the deadline after which nobody is kept from the unit, and at 0
--        while it is not known whether the gift is paid, and so made at all

-- Gifts looked at at a time.
local GIFTS_MAX = 512

-- Gifts that have to end, or of which the payment has to, before a "no" about units
-- is told: so many, of this giver if one is named. None if there are too few of
-- them: ending others would not make it a yes.
local function gifts_in_the_way(at, giver, needed)
  local found, looked_at = {}, 0
  while true do
    local due = redis.call('ZRANGEBYSCORE', GIFTS, '-inf', int(at), 'LIMIT', looked_at, GIFTS_MAX)
    for _, member in ipairs(due) do
      if not giver or string.sub(member, 17) == giver then
        found[#found + 1] = string.sub(member, 1, 16)
        if #found >= needed then
          return found
        end
      end
    end
    if #due < GIFTS_MAX then
      return {}
    end
    looked_at = looked_at + #due
  end
end

-- Whether a user's units are held for gifts too: more of them than by these live holds.
local function holds_for_gifts(units, live, hold_of)
  for i = 1, #live, 16 do
    units = units - hold_of(string.sub(live, i, i + 15)).quantity
  end
  return units > 0
end
