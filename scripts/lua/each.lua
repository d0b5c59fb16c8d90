-- Follows the body of every script that is written for one call; the body has
-- become the function `decide(KEYS, ARGV)`. Calls that wait together come as
-- one run of it.
--
-- KEYS  the keys of each call, one call after the other
-- ARGV  the arguments of each call, then how many calls there are
--
-- The answers stand in the order of the calls. A call that fails is answered by
-- its error, and the others go on: it failed before its first write, like any
-- call that fails, or its keys are damaged.

local calls = tonumber(table.remove(ARGV))

local function answer(keys, args)
  local done, answer = pcall(decide, keys, args)
  if not done then
    return failure(answer)
  end
  return answer == nil and false or answer
end

if calls == 1 then
  return {answer(KEYS, ARGV)}
end
local answers = {}
local keys, args = #KEYS / calls, #ARGV / calls
for call = 1, calls do
  answers[call] = answer({unpack(KEYS, (call - 1) * keys + 1, call * keys)},
    {unpack(ARGV, (call - 1) * args + 1, call * args)})
end
return answers
