-- Moves `last_seen_at` of a user to later: 1 if it moved. KEYS: user. ARGV: time.

local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, 1) ~= '{' then
  return 0
end
local user = cjson.decode(value)
local before = user.last_seen_at
if before and before ~= cjson.null and before >= ARGV[1] then
  return 0
end
user.last_seen_at = ARGV[1]
redis.call('SET', KEYS[1], cjson.encode(user))
return 1
