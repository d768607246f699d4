-- Moves a session to its next generation: its fields as they are then, nothing if it is not at this one.
-- KEYS: session. ARGV: the generation, now, the session's end.

if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then
  return {}
end
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'rotated_at', ARGV[2], 'expires_at', ARGV[3])
return redis.call('HGETALL', KEYS[1])
