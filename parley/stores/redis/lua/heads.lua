-- The revision of each room, false for those that are not open. KEYS: rooms.

local heads = {}
for i, key in ipairs(KEYS) do
  local room = redis.call('HMGET', key, 'revision', 'closed_at')
  heads[i] = not room[2] and room[1]
end
return heads
