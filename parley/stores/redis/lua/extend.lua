-- Moves the end of a session to later. KEYS: session. ARGV: time.

local ends = redis.call('HGET', KEYS[1], 'expires_at')
if ends and ends < ARGV[1] then
  redis.call('HSET', KEYS[1], 'expires_at', ARGV[1])
end
return 0
