-- Changes a room's settings, and deletes what is beyond another history limit: the room's fields, false if they
-- are so already, 'moved' if another decision is due, or the code of a refusal.
-- KEYS and ARGV: as `standing.lua` says, then KEYS: members, member-revisions, messages, ids, revisions; ARGV: how
-- many of the next are fields and values, the others are fields that become none.

local room_key, roles_key, members_key, stamps_key = unpack(KEYS)
local room = redis.call('HMGET', room_key, 'kind', 'closed_at', 'first_seq', 'last_seq', 'trimmed_revision')
if not room[1] or room[2] then
  return 'room_not_found'
end
if has_moved() then
  return 'moved'
end
local last, changed = 4 + tonumber(ARGV[4]), false
for at = 5, last, 2 do
  if redis.call('HGET', room_key, ARGV[at]) ~= ARGV[at + 1] then
    redis.call('HSET', room_key, ARGV[at], ARGV[at + 1])
    changed = true
  end
end
for at = last + 1, #ARGV do
  changed = redis.call('HDEL', room_key, ARGV[at]) == 1 or changed
end
if not changed then
  return false
end

local revision = redis.call('HINCRBY', room_key, 'revision', 1)
redis.call('HSET', room_key, 'settings_revision', revision)
local now = redis.call('HMGET', room_key, 'kind', 'history_limit')
if now[2] then
  local first_seq, trimmed_revision = trim(tonumber(now[2]), tonumber(room[3]), tonumber(room[4]),
    tonumber(room[5]), KEYS[5], KEYS[6], KEYS[7])
  redis.call('HSET', room_key, 'first_seq', first_seq, 'trimmed_revision', trimmed_revision)
end
if room[1] == 'public' and now[1] ~= 'public' then
  local users = redis.call('HKEYS', roles_key)
  for i, value in ipairs(read_many(members_key, users)) do
    set_member(members_key, users[i], revision, string.match(value, '^%d+ (.*)$'))
    redis.call('ZADD', stamps_key, revision, users[i])
  end
end
return redis.call('HGETALL', room_key)
