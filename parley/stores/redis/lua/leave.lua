-- Ends a membership, which stays as a tombstone: {the membership, the mark}, false if there was none, 'moved' if
-- another decision is due, 'note' if the room is to be noted first, as it is to close when nobody is in it.
-- KEYS and ARGV: as `standing.lua` says, then KEYS: members, member-revisions, present, marks; ARGV: time, 1 if
-- the room is noted; and of one who goes for good: the name and the display name under which they are still seen,
-- 1 if a public room need not remember them.

local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at', 'member_count', 'close_when_empty')
local user, noted, name = ARGV[3], ARGV[5] == '1', ARGV[6]
local public = room[1] == 'public'
if has_moved() then
  return 'moved'
end
local value = redis.call('HGET', KEYS[3], user)
if not value then
  return false
end
local is_in = redis.call('HEXISTS', KEYS[2], user) == 1
local closes = not room[2] and (not public or room[4] == 'true')
if is_in and closes and tonumber(room[3]) == 1 and not noted then
  return 'note'
end

local revision, member = revision_of(value), cjson.decode(string.match(value, '^%d+ (.*)$'))
local mark = redis.call('HGET', KEYS[6], user)
if is_in then
  member.left_at = ARGV[4]
  if not public then
    revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
    redis.call('ZADD', KEYS[4], revision, user)
  end
  redis.call('HDEL', KEYS[2], user)
  redis.call('ZREM', KEYS[5], user)
  redis.call('HINCRBY', KEYS[1], 'member_count', -1)
end
if name then
  member.name, member.display_name = name, ARGV[7]
end
if ARGV[8] == '1' and public and revision == 0 then
  redis.call('HDEL', KEYS[3], user)
  redis.call('HDEL', KEYS[6], user)
elseif is_in or name then
  value = set_member(KEYS[3], user, revision, cjson.encode(member))
end
return is_in and { value, mark }
