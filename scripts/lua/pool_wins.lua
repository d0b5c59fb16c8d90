-- Reads winners of a pool: one, or some and where the next are.
--
-- KEYS[1]  its winners
-- KEYS[2]  its shares
-- KEYS[3]  the pool
-- ARGV[1]  'win' or 'wins'
-- win:     ARGV[2] the user
-- wins:    ARGV[2] the cursor, ARGV[3] about how many
--
-- The answer is the cursor, the time that theirs are counted from, or '' if the
-- pool is not there, then user, row and share of each.

local pool = redis.call('HMGET', KEYS[3], 'base', 'width')
if not pool[1] then
  return {'0', ''}
end
local size = pool[2] == '4' and 8 or 12
local page = {'0', {}}
if ARGV[1] == 'wins' then
  page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
else
  local packed = redis.call('HGET', KEYS[1], ARGV[2])
  if packed then
    page[2] = {ARGV[2], packed}
  end
end
local found = {page[1], pool[1]}
for i = 1, #page[2], 2 do
  local at = struct.unpack('<I4', page[2][i + 1]) * size
  found[#found + 1] = page[2][i]
  found[#found + 1] = page[2][i + 1]
  found[#found + 1] = redis.call('GETRANGE', KEYS[2], at, at + size - 1)
end
return found
