-- Deletes all but the last messages of a room; returns which seq is the first one then, and the newest
-- revision among those that are gone.
local function trim(history_limit, first_seq, last_seq, trimmed_revision, messages_key, ids_key, revisions_key)
  local oldest = last_seq - history_limit + 1
  if oldest <= first_seq then
    return first_seq, trimmed_revision
  end
  local gone, gone_ids = {}, {}
  for seq = first_seq, oldest - 1 do
    gone[#gone + 1] = seq
  end
  for _, value in ipairs(read_many(messages_key, gone)) do
    if value then
      gone_ids[#gone_ids + 1] = string.match(value, '^%d+ (%S+)')
      trimmed_revision = math.max(trimmed_revision, revision_of(value))
    end
  end
  many('HDEL', messages_key, gone)
  many('HDEL', ids_key, gone_ids)
  many('ZREM', revisions_key, gone)
  return oldest, trimmed_revision
end

