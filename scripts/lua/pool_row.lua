-- Follows decide.lua in what a user does in a pool, and reads the pool.
--
-- KEYS[4]  the pool
-- KEYS[5]  its shares, number and amount each, in the order in which they came:
--          those before 'head' are won, those from 'tail' on are gone
-- KEYS[6]  its winners: user -> place among its shares, when grabbed, when
--          claimed; times since 'base', to keep a winner in 16 bytes
-- KEYS[7]  the envelopes the user grabbed from
-- KEYS[8]  the user's wallet
-- ARGV[4]  the envelope's id
-- ARGV[5]  the user

local row = redis.call('HMGET', KEYS[4], 'opens', 'expires', 'claim_by', 'width', 'auto_claim', 'unclaimed', 'base',
  'head', 'tail', 'taken_amount', 'claimed', 'claimed_amount', 'told', 'closed', 'lapsed', 'filled')
if not row[1] then
  return no('not_found')
end
local id, user = ARGV[4], ARGV[5]
local claim_by, base, auto_claim, unclaimed = tonumber(row[3]), tonumber(row[7]), row[5] == '1', row[6]
local mine = redis.call('HGET', KEYS[6], user)

-- A share by its place: its number and its amount.
local function share_at(place)
  local size = row[4] == '4' and 8 or 12
  local share, amount = struct.unpack(size == 8 and '<I4I4' or '<I4I8',
    redis.call('GETRANGE', KEYS[5], place * size, place * size + size - 1))
  return share, amount
end

-- When a winner grabbed and claimed.
local function times_of(packed)
  local grabbed_at = base + struct.unpack('<I5', packed, 5)
  if auto_claim then
    return grabbed_at, grabbed_at
  end
  return grabbed_at, #packed == 14 and base + struct.unpack('<I5', packed, 10)
end

-- Escrow becomes the user's own; both lie in this bucket. The balance was read
-- before anything was written, so no damaged wallet ends the script half way.
local function credit(amount, balance)
  enter(KEYS[8], 'c' .. id, now, 'c', amount, balance + amount, id)
  move('escrowed', -amount)
  move('wallets', amount)
end
