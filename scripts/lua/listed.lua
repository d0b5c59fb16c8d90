-- Grabs that credit nothing yet enter the lists of their users. A row may come
-- twice, and it moves no money.
--
-- KEYS     of each call: the envelopes its user grabbed from, the bucket's fences
-- ARGV[1]  how many calls there are
-- then of each call: when the grab was, the envelope, the envelope's bucket and
--          its generation when the effect was read

local function enter(key, fences, at, envelope, cause, generation)
  if fenced(fences, cause, generation) then
    return {'fenced'}
  end
  redis.call('ZADD', key, '-' .. at, envelope)
  return {'done'}
end

return answer_each(tonumber(ARGV[1]), function(call)
  return enter(KEYS[2 * call - 1], KEYS[2 * call], unpack(ARGV, 4 * call - 2, 4 * call + 1))
end)
