-- Grabs that credit nothing yet enter the lists of their users. A row may come
-- twice, and it moves no money, so it may also come late.
--
-- KEYS     of each call: the envelopes its user grabbed from
-- ARGV[1]  how many calls there are
-- then of each call: when the grab was, and the envelope

local answers = {}
for call = 1, tonumber(ARGV[1]) do
  local row = redis.pcall('ZADD', KEYS[call], '-' .. ARGV[2 * call], ARGV[2 * call + 1])
  answers[call] = type(row) == 'table' and failure(row) or {'done'}
end
return answers
