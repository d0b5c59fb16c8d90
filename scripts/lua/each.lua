-- Follows the body of every script that is written for one call; the body has
-- become the function `decide()`, for which KEYS and ARGV are those of the call.
-- Calls that wait together come as one run of it.
--
-- KEYS  the keys of each call, one call after the other
-- ARGV  the arguments of each call, then how many calls there are
--
-- The answers stand in the order of the calls. A call that fails is answered by
-- its error, and the others go on: it failed before its first write, like any
-- call that fails, or its keys are damaged.

local calls = tonumber(table.remove(ARGV))

local function answer()
  local done, answer = pcall(decide)
  if not done then
    return failure(answer)
  end
  return answer == nil and false or answer
end

if calls == 1 then
  return {answer()}
end
local all_keys, all_args, answers = KEYS, ARGV, {}
local keys, args = #KEYS / calls, #ARGV / calls
for call = 1, calls do
  KEYS = {unpack(all_keys, (call - 1) * keys + 1, call * keys)}
  ARGV = {unpack(all_args, (call - 1) * args + 1, call * args)}
  answers[call] = answer()
end
return answers
