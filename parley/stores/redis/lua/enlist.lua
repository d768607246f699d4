-- Puts a user into the lists: 1, or 0 if there are enough.
-- KEYS: people, guests, removed. ARGV: user id, a guest's place among the guests or '', the most users or ''.

local most = tonumber(ARGV[3])
if most and redis.call('ZCARD', KEYS[1]) - redis.call('ZCARD', KEYS[3]) >= most then
  return 0
end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
end
return 1
