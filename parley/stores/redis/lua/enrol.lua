-- Puts a room into the list of those that are open: 1, or 0 if it is full. KEYS: rooms. ARGV: room id, the most.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return 1
