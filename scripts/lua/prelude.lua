-- Every script that decides for one call begins with this.
--
-- KEYS[1]  the bucket's sums, its clock among them
-- ARGV[1]  the caller's time in milliseconds
-- ARGV[2]  'live' or 'test': a test deployment's time is not Redis's

local now, apart = bucket_time(run, KEYS[1], tonumber(ARGV[1]), ARGV[2])
if not now then
  return {'clock', apart}
end
