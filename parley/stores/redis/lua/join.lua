-- Makes a user a member: {the membership, the mark}, 0 if they are one already, 'moved' if another decision is
-- due, or the code of a refusal.
-- KEYS and ARGV: as `standing.lua` says, then KEYS: members, member-revisions, present, marks; ARGV: role, the
-- membership, the most members that the server takes or ''.

local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at', 'capacity', 'member_count')
local user, role, json, most = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if not room[1] or room[2] then
  return 'room_not_found'
end
if has_moved() then
  return 'moved'
end
if redis.call('HEXISTS', KEYS[2], user) == 1 then
  return 0
end
local count = tonumber(room[4])
if room[3] and count >= tonumber(room[3]) then
  return 'room_full'
end
if most and count >= most then
  return 'too_many'
end
local revision
if room[1] == 'public' then
  local former = redis.call('HGET', KEYS[3], user)
  revision = former and revision_of(former) or 0
else
  revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
  redis.call('ZADD', KEYS[4], revision, user)
end
redis.call('HSET', KEYS[2], user, role)
redis.call('ZADD', KEYS[5], 0, user)
redis.call('HINCRBY', KEYS[1], 'member_count', 1)
return { set_member(KEYS[3], user, revision, json), redis.call('HGET', KEYS[6], user) }
