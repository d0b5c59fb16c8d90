-- When an envelope is looked at again: for claims that are over once it has
-- ended, and never once it is settled.
local function set_deadline(due, id, claim_by, has_ended_now, settled)
  if settled then
    redis.call('ZREM', due, 'e' .. id)
  elseif has_ended_now then
    redis.call('ZADD', due, int(claim_by), 'e' .. id)
  end
end
