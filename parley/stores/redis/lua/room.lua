-- A room as a user sees it: {its fields, the user's membership, their mark}, both false for a stranger.
-- KEYS: room, roles, members, marks. ARGV: user id or ''.

local member, mark = false, false
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  member = redis.call('HGET', KEYS[3], ARGV[1])
  mark = redis.call('HGET', KEYS[4], ARGV[1])
end
return { redis.call('HGETALL', KEYS[1]), member, mark }
