-- Writes rows of a copy into a deployment that nobody serves. Doing it again
-- changes nothing.
--
-- ARGV  writes, one after the other: a command, which of the KEYS, how many
--       arguments, and these. Besides Redis's own commands:
--       'LIST'  how long the list is before it, then what is pushed
--       'KEPT'  an operation's mark: time, how long it is kept in milliseconds or
--               '0' for ever, then the words of its answer

local at = 1
while at <= #ARGV do
  local verb, key = ARGV[at], KEYS[tonumber(ARGV[at + 1])]
  local first, last = at + 3, at + 2 + tonumber(ARGV[at + 2])
  if verb == 'LIST' then
    if redis.call('LLEN', key) == tonumber(ARGV[first]) then
      redis.call('RPUSH', key, unpack(ARGV, first + 1, last))
    end
  elseif verb == 'KEPT' then
    local kept = cmsgpack.pack({ARGV[first], {unpack(ARGV, first + 2, last)}, {}})
    if ARGV[first + 1] == '0' then
      redis.call('SET', key, kept)
    else
      redis.call('SET', key, kept, 'PX', ARGV[first + 1])
    end
  else
    redis.call(verb, key, unpack(ARGV, first, last))
  end
  at = last + 1
end
return {'done'}
