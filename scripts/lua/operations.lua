-- What operations were answered, under marks with their ids.

-- What an operation was answered, as decide.lua tells it, if it was.
local function answered(mark, outbox)
  local kept = redis.call('GET', mark)
  if kept == 'void' then
    return {'void'}
  elseif kept then
    local at, answer, fields = unpack(cmsgpack.unpack(kept))
    local effects = {}
    for _, field in ipairs(fields) do
      local effect = redis.call('HGET', outbox, field)
      if effect then
        effects[#effects + 1] = field
        effects[#effects + 1] = effect
      end
    end
    return {'kept', at, answer, effects}
  end
end

-- Keeps an answer, and the fields of the effects it has caused: for so many
-- milliseconds, or with '0' for ever.
local function remember(mark, keep_ms, at, answer, fields)
  local kept = cmsgpack.pack({at, answer, fields})
  if keep_ms == '0' then
    redis.call('SET', mark, kept)
  else
    redis.call('SET', mark, kept, 'PX', keep_ms)
  end
end

-- Ends an operation that was never decided, for as long.
local function make_void(mark, keep_ms)
  if keep_ms == '0' then
    redis.call('SET', mark, 'void')
  else
    redis.call('SET', mark, 'void', 'PX', keep_ms)
  end
end
