-- Closes an open room: {1 if this call did it, the room's fields}, false without room, 'moved' if another
-- decision is due.
-- KEYS and ARGV: as `standing.lua` says; then ARGV: time, and which rooms: 'all', 'empty' or 'due', which also
-- takes those that have reached their end.

local at, which = ARGV[4], ARGV[5]
local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at', 'expires_at', 'member_count', 'close_when_empty')
if not room[1] then
  return false
end
if has_moved() then
  return 'moved'
end
local empty = room[4] == '0' and (room[1] ~= 'public' or room[5] == 'true')
local ended = which == 'due' and room[3] and room[3] <= at
local closes = not room[2] and (which == 'all' or empty or ended)
if closes then
  local revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
  redis.call('HSET', KEYS[1], 'closed_at', at, 'settings_revision', revision)
end
return { closes and 1 or 0, redis.call('HGETALL', KEYS[1]) }
