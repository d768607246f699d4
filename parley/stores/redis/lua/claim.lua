-- Claims a name: false, or the id that has it.
-- KEYS: the name. ARGV: the id that wants it; an id that has it but does not exist, or ''.
-- Whoever has a name and does not exist after a minute has crashed before it could.

local now = tonumber(redis.call('TIME')[1])
local held = redis.call('GET', KEYS[1])
if held then
  local id, since = string.match(held, '^(%S+) (%d+)$')
  if id ~= ARGV[2] or now - tonumber(since) < 60 then
    return id
  end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. now)
return false
