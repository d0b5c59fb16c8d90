-- When an envelope is looked at again: for claims that are over once it has
-- ended, and once it is settled only to archive it.
local function set_deadline(due, settled_list, id, claim_by, has_ended_now, settled, at)
  if settled then
    redis.call('ZADD', settled_list, int(at), id)
    redis.call('ZREM', due, 'e' .. id)
  elseif has_ended_now then
    redis.call('ZADD', due, int(claim_by), 'e' .. id)
  end
end
