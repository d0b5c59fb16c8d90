-- Looks at an operation's mark, ends an operation that was never decided, or
-- decides one that nothing in Redis is needed for.
--
-- ARGV[4]  'peek', 'void' or 'keep'
-- void:    ARGV[5] how long it is remembered in milliseconds; '0' for ever
-- keep:    ARGV[5..] the words of the answer

if ARGV[4] == 'void' then
  make_void(KEYS[2], ARGV[5])
  return {'void'}
end
if ARGV[4] == 'keep' then
  return decided({unpack(ARGV, 5)})
end
return {'new', int(now), {'none'}, {}}
