-- Takes an envelope's message back: out of its row, and for whoever reads it from the
-- archive, where it may be by now or may be on its way.
--
-- KEYS[4]  the envelope
-- KEYS[5]  what was taken back of the bucket's envelopes
-- KEYS[6]  what was erased last in the bucket: see gift_address.lua
-- ARGV[4]  the envelope's id
-- ARGV[5]  what was taken back before as it stands in KEYS[5], or ''
-- ARGV[6]  what is taken back from now on; ARGV[7] since when, ARGV[8] '1' if that is its metadata as well
-- ARGV[9]  all that was fixed when it was made, as it was read, or '' of one that is archived;
--          ARGV[10] the same without what is taken back

local id = ARGV[4]
local row = redis.call('HGET', KEYS[4], 'created') or ''
if row ~= ARGV[9] or (redis.call('HGET', KEYS[5], id) or '') ~= ARGV[5] then
  return no('changed')
end
redis.call('HLEN', KEYS[6])
if row ~= '' then
  redis.call('HSET', KEYS[4], 'created', ARGV[10])
end
redis.call('HSET', KEYS[5], id, ARGV[6])
redis.call('HSET', KEYS[6], 'last', id .. ARGV[6])
tell('r', int(now) .. ' ' .. ARGV[7] .. ' ' .. ARGV[8] .. ' ' .. id)
return decided({'redacted'})
