-- Notes that a user may be in a room from now on. KEYS: user-rooms. ARGV: room id.
-- Before the user joins, so that a room that they are in is never missing from the list.

redis.call('ZADD', KEYS[1], tonumber(redis.call('TIME')[1]), ARGV[1])
return 0
