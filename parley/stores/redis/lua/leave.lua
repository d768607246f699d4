-- Ends a membership, which stays as a tombstone: 1, or 0 if there was none.
-- KEYS: room, members, member-revisions, roles, present. ARGV: user id, time.

local user = ARGV[1]
if redis.call('HEXISTS', KEYS[4], user) == 0 then
  return 0
end
local stamp, json = string.match(redis.call('HGET', KEYS[2], user), '^(%d+) (.*)$')
local member = cjson.decode(json)
member.left_at = ARGV[2]
if redis.call('HGET', KEYS[1], 'kind') ~= 'public' then
  stamp = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'revision', 1))
  redis.call('ZADD', KEYS[3], stamp, user)
end
redis.call('HSET', KEYS[2], user, stamp .. ' ' .. cjson.encode(member))
redis.call('HDEL', KEYS[4], user)
redis.call('ZREM', KEYS[5], user)
redis.call('HINCRBY', KEYS[1], 'member_count', -1)
return 1
