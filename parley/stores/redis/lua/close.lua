-- Closes a room that is open and due: {1 if this call did it, the room's fields}, false without room.
-- KEYS: room. ARGV: time.

local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at', 'expires_at')
if not room[1] then
  return false
end
local due = not room[2] and room[3] and room[3] <= ARGV[1]
if due then
  local revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
  redis.call('HSET', KEYS[1], 'closed_at', ARGV[1], 'settings_revision', revision)
end
return { due and 1 or 0, redis.call('HGETALL', KEYS[1]) }
