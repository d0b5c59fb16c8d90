-- Fences: of each bucket that effects come from, the generation with which marks
-- of them left this bucket (leave.lua). Five bytes each, in the buckets' order.
--
-- An effect that was read in an older generation may have arrived long ago, and
-- whoever carries it has to look for it in its outbox again.
local function fenced(fences, cause, generation)
  local at = 5 * tonumber(cause)
  local fence = redis.call('GETRANGE', fences, at, at + 4)
  return #fence == 5 and tonumber(generation) < struct.unpack('<I5', fence)
end

local function raise_fence(fences, cause, generation)
  if not fenced(fences, cause, generation) then
    redis.call('SETRANGE', fences, 5 * tonumber(cause), struct.pack('<I5', tonumber(generation)))
  end
end
