-- Takes rooms that were found not to belong there from a list of where to look.
-- KEYS: the list. ARGV: room ids. One noted within the last minute stays: its making or joining may be
-- under way.

local before = tonumber(redis.call('TIME')[1]) - 60
for _, room_id in ipairs(ARGV) do
  local noted = redis.call('ZSCORE', KEYS[1], room_id)
  if noted and tonumber(noted) < before then
    redis.call('ZREM', KEYS[1], room_id)
  end
end
return 0
