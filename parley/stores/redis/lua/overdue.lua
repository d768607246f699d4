-- Ids that were noted more than a minute ago, the oldest first. KEYS: a sorted set. ARGV: how many.

local before = tonumber(redis.call('TIME')[1]) - 60
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, ARGV[1])
