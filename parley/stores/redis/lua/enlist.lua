-- Puts a user into the lists. KEYS: people, guests. ARGV: user id, a guest's place among the guests or ''.

redis.call('ZADD', KEYS[1], 0, ARGV[1])
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
end
return 0
