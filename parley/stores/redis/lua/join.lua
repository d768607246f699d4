-- Makes a user a member: 1, 0 if they are one already, or the code of a refusal.
-- KEYS: room, members, member-revisions, roles, present. ARGV: user id, role, the membership.

local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at', 'capacity', 'member_count', 'revision')
local user, role = ARGV[1], ARGV[2]
if not room[1] or room[2] then
  return 'room_not_found'
end
if redis.call('HEXISTS', KEYS[4], user) == 1 then
  return 0
end
if room[3] and tonumber(room[4]) >= tonumber(room[3]) then
  return 'room_full'
end
local revision = 0
if room[1] ~= 'public' then
  revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
  redis.call('ZADD', KEYS[3], revision, user)
end
redis.call('HSET', KEYS[2], user, string.format('%.0f', revision) .. ' ' .. ARGV[3])
redis.call('HSET', KEYS[4], user, role)
redis.call('ZADD', KEYS[5], 0, user)
redis.call('HINCRBY', KEYS[1], 'member_count', 1)
return 1
