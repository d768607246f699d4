-- Shows a member under another display name. KEYS: members. ARGV: user id, the name.

local value = redis.call('HGET', KEYS[1], ARGV[1])
if value then
  local stamp, json = string.match(value, '^(%d+) (.*)$')
  local member = cjson.decode(json)
  member.display_name = ARGV[2]
  redis.call('HSET', KEYS[1], ARGV[1], stamp .. ' ' .. cjson.encode(member))
end
return 0
