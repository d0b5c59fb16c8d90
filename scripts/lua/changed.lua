-- Writes those fields of a row whose values have changed since it was read,
-- where they stood behind `before` others.
local function write_changed(key, fields, row, before, values)
  local changed = {}
  for i, field in ipairs(fields) do
    if values[i] ~= row[before + i] then
      changed[#changed + 1] = field
      changed[#changed + 1] = values[i]
    end
  end
  if #changed > 0 then
    redis.call('HSET', key, unpack(changed))
  end
end
