-- Takes rooms that the user was found not to be in from the list of where to look.
-- KEYS: user-rooms. ARGV: room ids. One noted within the last minute stays: its joining may be under way.

local before = tonumber(redis.call('TIME')[1]) - 60
for _, room_id in ipairs(ARGV) do
  local noted = redis.call('ZSCORE', KEYS[1], room_id)
  if noted and tonumber(noted) < before then
    redis.call('ZREM', KEYS[1], room_id)
  end
end
return 0
