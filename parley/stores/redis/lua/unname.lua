-- Marks a user as removed who wants to go, and takes their name and their password: their record as it is then,
-- false if there is none. The name stands in the record until it was given back.
-- KEYS: user, password. ARGV: user id, time, the display name under which they are still seen.

local value = redis.call('GET', KEYS[1])
if value and string.sub(value, 1, 1) == '{' then
  local user = cjson.decode(value)
  local freed = user.name
  user.name, user.display_name = ARGV[1], ARGV[3]
  value = ARGV[2] .. ' ' .. freed .. ' ' .. cjson.encode(user)
  redis.call('SET', KEYS[1], value)
  redis.call('DEL', KEYS[2])
end
return value
