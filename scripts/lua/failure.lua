-- What a call answers that failed, while the others of its run go on.
local function failure(error)
  local text = type(error) == 'table' and error.err or tostring(error)
  text = string.gsub(text, '[\r\n]', ' ')
  -- Before Redis 7 an error is a text with the line in front of its code.
  return {err = string.match(text, '^%-?(%u%u+ .*)$') or string.match(text, ': %-?(%u%u%u+ .*)$') or 'ERR ' .. text}
end
