-- Gives a user another display name: their record as it is then, false if there is none.
-- KEYS: user. ARGV: the name.

local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, 1) ~= '{' then
  return false
end
local user = cjson.decode(value)
user.display_name = ARGV[1]
value = cjson.encode(user)
redis.call('SET', KEYS[1], value)
return value
