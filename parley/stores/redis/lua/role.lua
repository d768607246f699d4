-- Gives a member another role: {the membership, the mark}, false if they have it already, 'moved' if another
-- decision is due, or the code of a refusal.
-- KEYS and ARGV: as `standing.lua` says, then KEYS: members, member-revisions, marks; ARGV: role.

local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at')
local user, role = ARGV[3], ARGV[4]
if not room[1] or room[2] then
  return 'room_not_found'
end
if has_moved() then
  return 'moved'
end
local was = redis.call('HGET', KEYS[2], user)
if not was then
  return 'user_not_found'
end
if was == role then
  return false
end
local member = cjson.decode(string.match(redis.call('HGET', KEYS[3], user), '^%d+ (.*)$'))
member.role = role
local revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
redis.call('HSET', KEYS[2], user, role)
redis.call('ZADD', KEYS[4], revision, user)
return { set_member(KEYS[3], user, revision, cjson.encode(member)), redis.call('HGET', KEYS[5], user) }
