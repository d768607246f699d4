-- Takes a user from the lists. KEYS: people, guests, removed. ARGV: user id.

for i = 1, 3 do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
return 0
