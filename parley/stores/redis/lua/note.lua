-- Notes an id together with this second. KEYS: a sorted set. ARGV: the id.

redis.call('ZADD', KEYS[1], tonumber(redis.call('TIME')[1]), ARGV[1])
return 0
