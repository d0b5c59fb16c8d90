-- For scripts that are written for many calls.

-- What each call is answered. One that fails is answered by its error, and the
-- others go on.
local function answer_each(calls, decide, users)
  local answers = {}
  for call = 1, calls do
    local done, answer = pcall(decide, call, users and users[call])
    answers[call] = done and answer or failure(answer)
  end
  return answers
end

-- When nobody can be decided for, because the newest caller's time is off.
local function clock_is_off(calls, apart)
  local answers = {}
  for call = 1, calls do
    answers[call] = {'clock', apart}
  end
  return answers
end

-- The words of an answer that has spaces between them; some are empty.
local function words_of(text)
  local words = {}
  for word in string.gmatch(text .. ' ', '(.-) ') do
    words[#words + 1] = word
  end
  return words
end
