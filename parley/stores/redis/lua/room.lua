-- A room as a user sees it: {its fields, the user's membership, their mark, the other one's id in a direct room},
-- all but the first false for a stranger.
-- KEYS: room, roles, members, marks. ARGV: user id or ''.

local fields, user = redis.call('HGETALL', KEYS[1]), ARGV[1]
if user == '' or redis.call('HEXISTS', KEYS[2], user) == 0 then
  return { fields, false, false, false }
end
local peer = false
if redis.call('HGET', KEYS[1], 'kind') == 'direct' then
  for _, each in ipairs(redis.call('HKEYS', KEYS[3])) do
    peer = each ~= user and each or peer
  end
end
return { fields, redis.call('HGET', KEYS[3], user), redis.call('HGET', KEYS[4], user), peer }
