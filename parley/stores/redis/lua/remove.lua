-- Marks a guest whom nothing keeps as removed: 1 for the one caller who does it, 0 for all others.
-- KEYS: user, sessions, created. ARGV: now as a time and in milliseconds, idle since when, and those rooms
-- that the guest created which do not keep them. A room that is not named here may have come meanwhile.

local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, 1) ~= '{' then
  return 0
end
local user = cjson.decode(value)
local seen = user.last_seen_at
if user.kind ~= 'guest' or not seen or seen == cjson.null or seen > ARGV[3] then
  return 0
end
if redis.call('ZCOUNT', KEYS[2], '(' .. ARGV[2], '+inf') > 0 then
  return 0
end
local keeps_not = {}
for i = 4, #ARGV do
  keeps_not[ARGV[i]] = true
end
for _, room in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  if not keeps_not[room] then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. value)
return 1
