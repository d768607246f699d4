-- What the rules of a room ask about, as one text: its kind, the role of who asks, that of whom it is about, and
-- where this is an owner or the room is direct, how many owners and members there are, 2 for any more. '' if the room is not open.
-- KEYS begin with: room, roles. ARGV begin with: who asks or '', what was seen before or '', whom it is about.
local function standing()
  local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at', 'member_count')
  if not room[1] or room[2] then
    return ''
  end
  local roles = redis.call('HMGET', KEYS[2], ARGV[1], ARGV[3])
  local owners, members = 0, 0
  if roles[2] == 'owner' or room[1] == 'direct' then
    for _, role in ipairs(redis.call('HVALS', KEYS[2])) do
      owners = owners + (role == 'owner' and 1 or 0)
    end
    owners, members = math.min(owners, 2), math.min(tonumber(room[3]), 2)
  end
  return table.concat({ room[1], roles[1] or '-', roles[2] or '-', owners, members }, ' ')
end

-- Whether what was decided on is not so any more.
local function has_moved()
  return ARGV[2] ~= '' and standing() ~= ARGV[2]
end

-- A membership with its revision, as it is kept, in its place.
local function set_member(members_key, user, revision, json)
  local value = string.format('%.0f', revision) .. ' ' .. json
  redis.call('HSET', members_key, user, value)
  return value
end

