-- A win as the winners of an envelope or of a pool keep it: the number of the
-- share, or its place in the pool; when it was grabbed; and, if it is, when it was
-- claimed. Times count from `base`, when the envelope opened, or the pool's own.
-- So it takes 9 or 14 bytes, and Redis has places of 16.

local function packed_win(share, base, grabbed_at, claimed_at)
  local packed = struct.pack('<I4I5', share, grabbed_at - base)
  return claimed_at and packed .. struct.pack('<I5', claimed_at - base) or packed
end

-- Tells of a win, as it was grabbed or claimed: when, which share, how much, when
-- it was grabbed, of which envelope, and whose.
local function tell_win(kind, at, share, amount, grabbed_at, id, user)
  if tells(kind) then
    tell(kind, int(at) .. ' ' .. int(share) .. ' ' .. int(amount) .. ' ' .. int(grabbed_at) .. ' ' .. id .. user)
  end
end

local function read_win(packed, base)
  local share, grabbed = struct.unpack('<I4I5', packed)
  return share, base + grabbed, #packed == 14 and base + struct.unpack('<I5', packed, 10) or nil
end
