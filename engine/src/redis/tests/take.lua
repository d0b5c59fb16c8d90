-- KEYS: one hash of users and their numbers. ARGV: how many users, then the users.
local answers = {}
for call = 1, tonumber(ARGV[1]) do
    local user = ARGV[1 + call]
    local number = redis.call('HGET', KEYS[1], user)
    if not number then
        number = redis.call('HLEN', KEYS[1]) + 1
        redis.call('HSET', KEYS[1], user, number)
    end
    answers[call] = tonumber(number)
end
return answers
