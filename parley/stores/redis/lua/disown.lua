-- Writes another name over a user's on some messages: the seq after which to go on, false at the end.
-- KEYS: room, messages. ARGV: user id, the name, the seq after which to begin, how many messages to look at.

local AUTHOR, NAME = 1, 2
local user, name, after = ARGV[1], ARGV[2], tonumber(ARGV[3])
local room = redis.call('HMGET', KEYS[1], 'first_seq', 'last_seq')
if not room[1] then
  return false
end
local last_seq, following = tonumber(room[2]), after + tonumber(ARGV[4])
local seqs, written = {}, {}
for seq = math.max(tonumber(room[1]), after + 1), math.min(following, last_seq) do
  seqs[#seqs + 1] = seq
end
for i, value in ipairs(read_many(KEYS[2], seqs)) do
  local before, json = string.match(value or '', '^(%d+ %S+ )(.*)$')
  local fine, row = pcall(cjson.decode, json)
  if fine and row[AUTHOR] == user and row[NAME] ~= name then
    row[NAME] = name
    written[#written + 1] = seqs[i]
    written[#written + 1] = before .. cjson.encode(row)
  end
end
if #written > 0 then
  many('HSET', KEYS[2], written)
  redis.call('HSET', KEYS[1], 'trimmed_revision', redis.call('HINCRBY', KEYS[1], 'revision', 1))
end
return following < last_seq and following
