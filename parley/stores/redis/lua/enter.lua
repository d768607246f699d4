-- Notes a session with its user: 1, or 0 if there is no such user.
-- KEYS: user, sessions. ARGV: session id, when it ends in milliseconds.

local user = redis.call('GET', KEYS[1])
if not user or string.sub(user, 1, 1) ~= '{' then
  return 0
end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 1
