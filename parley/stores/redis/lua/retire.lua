-- Moves a user from the guests to those who were removed.
-- KEYS: people, guests, removed. ARGV: user id, when in milliseconds.

redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
end
return 0
