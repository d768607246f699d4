-- Messages in the order of their seq: seq, value, ….
-- KEYS: room, messages. ARGV: the seq before which they lie or '', the one after which or '', how many.

local room = redis.call('HMGET', KEYS[1], 'first_seq', 'last_seq')
if not room[1] then
  return {}
end
local first, last, limit = tonumber(room[1]), tonumber(room[2]), tonumber(ARGV[3])
if ARGV[1] ~= '' then
  last = math.min(last, tonumber(ARGV[1]) - 1)
end
if ARGV[2] ~= '' then
  first = math.max(first, tonumber(ARGV[2]) + 1)
  last = math.min(last, first + limit - 1)
else
  first = math.max(first, last - limit + 1)
end
local seqs = {}
for seq = first, last do
  seqs[#seqs + 1] = seq
end
local found = {}
for i, value in ipairs(read_many(KEYS[2], seqs)) do
  found[#found + 1] = seqs[i]
  found[#found + 1] = value
end
return found
