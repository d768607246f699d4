-- Notes a room with a user who is there, and returns the user's JSON; false, and nothing is noted, otherwise.
-- KEYS: user, and the lists that take it. ARGV: room id.
-- Before the user joins or the room is made, so that such a room is never missing from the list; and in one
-- with looking at the user, so that nobody is removed (`remove.lua`) in between.

local user = redis.call('GET', KEYS[1])
if not user or string.sub(user, 1, 1) ~= '{' then
  return false
end
for i = 2, #KEYS do
  redis.call('ZADD', KEYS[i], tonumber(redis.call('TIME')[1]), ARGV[1])
end
return user
