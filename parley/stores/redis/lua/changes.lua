-- What a room has become since a revision, all of one moment.
-- KEYS: room, messages, revisions, members, member-revisions, roles, marks.
-- ARGV: the revision; the most messages to tell; how many a reset carries; 1 to reset anyway.
-- Returns false without room, else {1 if reset, the room's fields, 1 if they changed, messages, members},
-- the messages as seq, value, …; the members as user, value, mark, ….

local room_key, messages_key, revisions_key, members_key, stamps_key, roles_key, marks_key = unpack(KEYS)
local since, limit, newest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local room = redis.call('HMGET', room_key, 'kind', 'closed_at', 'revision', 'trimmed_revision',
  'settings_revision', 'first_seq', 'last_seq')
if not room[1] or room[2] then
  return false
end
local revision, trimmed, settings = tonumber(room[3]), tonumber(room[4]), tonumber(room[5])
local first_seq, last_seq = tonumber(room[6]), tonumber(room[7])
local later = '(' .. ARGV[1]
local reset = ARGV[4] == '1' or since < trimmed or since > revision
  or redis.call('ZCOUNT', revisions_key, later, '+inf') > limit

local seqs, users
if reset then
  seqs = {}
  for seq = math.max(first_seq, last_seq - newest + 1), last_seq do
    seqs[#seqs + 1] = seq
  end
  users = room[1] ~= 'public' and redis.call('HKEYS', roles_key) or {}
else
  seqs = redis.call('ZRANGEBYSCORE', revisions_key, later, '+inf')
  users = redis.call('ZRANGEBYSCORE', stamps_key, later, '+inf')
end

local messages, members = {}, {}
for i, value in ipairs(read_many(messages_key, seqs)) do
  messages[#messages + 1] = seqs[i]
  messages[#messages + 1] = value
end
local marks = read_many(marks_key, users)
for i, value in ipairs(read_many(members_key, users)) do
  members[#members + 1] = users[i]
  members[#members + 1] = value
  members[#members + 1] = marks[i]
end
return { reset and 1 or 0, redis.call('HGETALL', room_key), settings > since and 1 or 0, messages, members }
