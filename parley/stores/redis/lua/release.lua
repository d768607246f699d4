-- Gives a name back. KEYS: the name. ARGV: the id that had it; nothing happens if it is another's by now.

local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^%S+') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 0
