-- What audits and copies read besides. It changes nothing.
--
-- ARGV[1]  'page'     KEYS[1] a hash; ARGV[2] where the last page ended, or '0';
--                     ARGV[3] about how many: where this one ends, fields and values
--          'scores'   KEYS[1] a sorted set; ARGV[2..] its members
--          'sizes'    KEYS    strings, hashes, lists, sets and sorted sets: how many each holds
--          'bytes'    KEYS[1] a string; ARGV[2], ARGV[3] from and to
--          'arrived'  KEYS[1] a wallet, KEYS[2] what its user received;
--                     ARGV[2] an effect's id, ARGV[3] an envelope: the movement
--                     entered under the id, and when the user grabbed from the envelope
--          'answer'   KEYS[1] an idempotency key's or reference's record: its fields and how long it lives
--          'kept'     KEYS[1] an operation's mark: what it was answered

local what = ARGV[1]
if what == 'page' then
  return redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
end

if what == 'scores' then
  return redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 2))
end

if what == 'sizes' then
  local by = {string = 'STRLEN', hash = 'HLEN', list = 'LLEN', set = 'SCARD', zset = 'ZCARD'}
  local sizes = {}
  for i, key in ipairs(KEYS) do
    local kind = redis.call('TYPE', key).ok
    sizes[i] = by[kind] and redis.call(by[kind], key) or 0
  end
  return sizes
end

if what == 'bytes' then
  return {redis.call('GETRANGE', KEYS[1], ARGV[2], ARGV[3])}
end

if what == 'arrived' then
  local row = redis.call('HGET', KEYS[1], '#' .. ARGV[2])
  return {row and redis.call('HGET', KEYS[1], row) or '', redis.call('ZSCORE', KEYS[2], ARGV[3]) or ''}
end

if what == 'answer' then
  local row = redis.call('HMGET', KEYS[1], 'fingerprint', 'operation', 'bucket', 'until')
  row[5] = redis.call('PTTL', KEYS[1])
  return row
end

local kept = redis.call('GET', KEYS[1])
if not kept or kept == 'void' then
  return {}
end
local at, answer, fields = unpack(cmsgpack.unpack(kept))
return {at, answer}
