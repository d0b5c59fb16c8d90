-- Looks at an operation's mark, or ends an operation that was never decided.
--
-- ARGV[4]  'peek' or 'void'
-- ARGV[5]  how long a void operation is remembered in milliseconds; '0' for ever

if ARGV[4] == 'void' then
  if ARGV[5] == '0' then
    redis.call('SET', KEYS[2], 'void')
  else
    redis.call('SET', KEYS[2], 'void', 'PX', ARGV[5])
  end
  return {'void'}
end
return {'new', int(now), {'none'}, {}}
