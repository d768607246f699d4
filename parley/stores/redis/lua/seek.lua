-- The seq after the last message that was sent at a time or before, as far as times rise with the seq.
-- KEYS: room, messages. ARGV: time.

local SENT_AT = 5
local room = redis.call('HMGET', KEYS[1], 'first_seq', 'last_seq')
if not room[1] then
  return 0
end
local low, high = tonumber(room[1]), tonumber(room[2]) + 1
while low < high do
  local middle = math.floor((low + high) / 2)
  local value = redis.call('HGET', KEYS[2], middle)
  if value and cjson.decode(string.match(value, '^%d+ %S+ (.*)$'))[SENT_AT] > ARGV[1] then
    high = middle
  else
    low = middle + 1
  end
end
return low
