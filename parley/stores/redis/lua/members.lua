-- Those who are in a room, in the order of their ids: user, value, mark, ….
-- KEYS: members, present, marks. ARGV: where to begin, as ZRANGEBYLEX takes it; how many.

local users = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
local marks = read_many(KEYS[3], users)
local found = {}
for i, value in ipairs(read_many(KEYS[1], users)) do
  found[#found + 1] = users[i]
  found[#found + 1] = value
  found[#found + 1] = marks[i]
end
return found
