-- How many of these rooms are open, and how many messages they have together. KEYS: rooms.

local open, messages = 0, 0
for _, key in ipairs(KEYS) do
  local room = redis.call('HMGET', key, 'closed_at', 'first_seq', 'last_seq')
  if room[2] and not room[1] then
    open = open + 1
    messages = messages + tonumber(room[3]) - tonumber(room[2]) + 1
  end
end
return { open, messages }
