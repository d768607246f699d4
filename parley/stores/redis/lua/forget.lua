-- Takes rooms that were found not to belong there from a list of where to look, and returns how many it took.
-- KEYS: the list. ARGV: room ids. One noted within the last minute stays: its making or joining may be
-- under way.

local before, gone = tonumber(redis.call('TIME')[1]) - 60, 0
for _, room_id in ipairs(ARGV) do
  local noted = redis.call('ZSCORE', KEYS[1], room_id)
  if noted and tonumber(noted) < before then
    gone = gone + redis.call('ZREM', KEYS[1], room_id)
  end
end
return gone
