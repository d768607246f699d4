-- Changes how many messages a room keeps, and deletes those that are too many: 1 if the room is there.
-- KEYS: room, messages, ids, revisions. ARGV: the limit.

local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at', 'history_limit', 'first_seq', 'last_seq',
  'trimmed_revision')
if not room[1] or room[2] then
  return 0
end
if room[3] ~= ARGV[1] then
  local revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
  local first_seq, trimmed_revision = trim(tonumber(ARGV[1]), tonumber(room[4]), tonumber(room[5]),
    tonumber(room[6]), KEYS[2], KEYS[3], KEYS[4])
  redis.call('HSET', KEYS[1], 'history_limit', ARGV[1], 'settings_revision', revision, 'first_seq', first_seq,
    'trimmed_revision', trimmed_revision)
end
return 1
