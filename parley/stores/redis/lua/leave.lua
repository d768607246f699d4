-- Ends a membership, which stays as a tombstone: 1, or 0 if there was none.
-- KEYS: room, members, member-revisions, roles, present, marks.
-- ARGV: user id, time, 1 if the user goes for ever: then nothing of them stays in a public room.

local user, public = ARGV[1], redis.call('HGET', KEYS[1], 'kind') == 'public'
local is_in = redis.call('HEXISTS', KEYS[4], user) == 1
if public and ARGV[3] == '1' then
  redis.call('HDEL', KEYS[2], user)
  redis.call('HDEL', KEYS[6], user)
elseif is_in then
  local stamp, json = string.match(redis.call('HGET', KEYS[2], user), '^(%d+) (.*)$')
  local member = cjson.decode(json)
  member.left_at = ARGV[2]
  if not public then
    stamp = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'revision', 1))
    redis.call('ZADD', KEYS[3], stamp, user)
  end
  redis.call('HSET', KEYS[2], user, stamp .. ' ' .. cjson.encode(member))
end
if not is_in then
  return 0
end
redis.call('HDEL', KEYS[4], user)
redis.call('ZREM', KEYS[5], user)
redis.call('HINCRBY', KEYS[1], 'member_count', -1)
return 1
