-- Makes a room with its first members: 1, or 0 if there is one of that id already.
-- KEYS: room, members, member-revisions, roles, present. ARGV: how many members; for each the id, the role, the
-- membership and the revision that it takes; the room's fields and values.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local first = 2 + 4 * tonumber(ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, first))
for at = 2, first - 1, 4 do
  local user, role, json, revision = unpack(ARGV, at, at + 3)
  redis.call('HSET', KEYS[2], user, revision .. ' ' .. json)
  redis.call('HSET', KEYS[4], user, role)
  redis.call('ZADD', KEYS[5], 0, user)
  if revision ~= '0' then
    redis.call('ZADD', KEYS[3], revision, user)
  end
end
return 1
