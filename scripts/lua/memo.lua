-- An idempotency key or a reference, in the bucket of its own hash: which
-- command it stands for, and the operation that decides it.
--
-- KEYS[2]  the key's record
-- ARGV[3]  'begin' or 'replace'
-- ARGV[4]  the command's fingerprint
-- ARGV[5]  an operation that nobody has begun yet
-- ARGV[6]  the bucket where that is decided
-- ARGV[7]  how long the record is kept in milliseconds; '0' for ever
-- ARGV[8]  from when on the record counts for nothing, or ''
-- ARGV[9]  replace: the operation it must still stand for

local kept = redis.call('HMGET', KEYS[2], 'fingerprint', 'operation', 'bucket', 'until')
local operation = kept[2]
if operation and kept[4] and kept[4] ~= '' and now >= tonumber(kept[4]) then
  operation = false
end

local function keep()
  redis.call('HSET', KEYS[2], 'fingerprint', ARGV[4], 'operation', ARGV[5], 'bucket', ARGV[6], 'until', ARGV[8])
end

local function renew()
  if ARGV[7] ~= '0' then
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
  end
end

if ARGV[3] == 'begin' then
  if not operation then
    keep()
    renew()
    return {'mine'}
  end
  renew()
  if operation == ARGV[5] then
    return {'mine'}
  end
  return {kept[1] == ARGV[4] and 'same' or 'other', operation, kept[3], kept[4]}
end

if kept[2] and kept[2] ~= ARGV[9] then
  return {'moved'}
end
keep()
renew()
return {'mine'}
