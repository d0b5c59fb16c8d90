-- Follows the prelude in every script that decides a command.
--
-- KEYS[2]  the mark of this operation: what it was answered, under its own id
-- KEYS[3]  the bucket's outbox
-- ARGV[3]  how long the mark is kept in milliseconds; '0' for ever; '-' for
--          commands that are known again by what they did
--
-- The answer is {how, time, answer, effects}: 'new' when it was decided now,
-- 'kept' when it had been, {'void'} when it may not be decided any more.
-- Effects are those of the outbox that another bucket does not know to have yet.

local told = ARGV[3] ~= '-' and answered(KEYS[2], KEYS[3])
if told then
  return told
end

-- An answer that tells of something. What it causes elsewhere goes to the outbox.
-- Under the mark it is kept as `kept` says, if that is another.
local function decided(answer, effects, kept)
  effects = effects or {}
  local fields = {}
  for i = 1, #effects, 2 do
    redis.call('HSET', KEYS[3], effects[i], effects[i + 1])
    fields[#fields + 1] = effects[i]
  end
  if ARGV[3] ~= '-' then
    remember(KEYS[2], ARGV[3], int(now), kept or answer, fields)
  end
  return {'new', int(now), answer, effects}
end

-- A no: it changes nothing and is not kept.
local function no(...)
  return {'new', int(now), {'no', ...}, {}}
end

-- The effect that waits in the outbox under this field, if it does.
local function waiting(field)
  local effect = redis.call('HGET', KEYS[3], field)
  if effect then
    return {field, effect}
  end
  return {}
end
