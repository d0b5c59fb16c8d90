-- What all servers of a deployment have in common, in bucket 0.
--
-- KEYS[4]  the deployment
-- KEYS[5]  what each bucket may take in as deposits
-- ARGV[4]  'advance' or 'grant'
-- advance: ARGV[5] by how many milliseconds a test deployment's clock goes forward
-- grant:   ARGV[5] bucket, ARGV[6] needed in all, ARGV[7] wanted in all

if ARGV[4] == 'advance' then
  local advanced = redis.call('HINCRBY', KEYS[4], 'advanced', ARGV[5])
  return decided({'clock', int(now + tonumber(ARGV[5])), int(advanced)})
end

local granted = tonumber(redis.call('HGET', KEYS[5], ARGV[5]) or '0')
local all = tonumber(redis.call('HGET', KEYS[5], 'all') or '0')
local most = granted + AMOUNT_MAX - all
if tonumber(ARGV[6]) > granted and tonumber(ARGV[6]) <= most then
  local grant = math.min(tonumber(ARGV[7]), most)
  redis.call('HSET', KEYS[5], ARGV[5], int(grant), 'all', int(all + grant - granted))
  granted = grant
end
return decided({'quota', int(granted)})
