-- Applies a batch's changes to one room, in order.
-- KEYS: room, roles, messages, ids, revisions.
-- ARGV: the most reactions, then six for each change: what, id, user, and
--   send: the id that it answers or '', the time, the row; edit: text, time, ''; delete: '', time, '';
--   react, unreact: emoji, '', ''.
-- Returns the code of what refuses all, or for each change
--   {seq, revision} of a fresh send, {seq, value, 1 if fresh} of any other, or the code of its refusal.
-- Reads everything first and writes at the end: an error before has changed nothing.

local WRITES = { owner = true, moderator = true, member = true }
local KEEPS_ORDER = { owner = true, moderator = true }
local AUTHOR, TEXT, EDITED_AT, DELETED_AT, REACTIONS = 1, 4, 7, 8, 9
local STRIDE = 6

local room_key, roles_key, messages_key, ids_key, revisions_key = unpack(KEYS)
local max_reactions = tonumber(ARGV[1])

local room = redis.call('HMGET', room_key, 'kind', 'closed_at', 'read_only', 'history_limit',
  'first_seq', 'last_seq', 'revision', 'trimmed_revision', 'last_message_at')
local kind, read_only, history_limit = room[1], room[3] == 'true', tonumber(room[4])
local first_seq, last_seq, revision = tonumber(room[5]), tonumber(room[6]), tonumber(room[7])
-- Whatever is written from here on, there is a message then, and so such a time.
local trimmed_revision, last_message_at = tonumber(room[8]), room[9]
if not kind or room[2] then
  return 'room_not_found'
end
local stranger = kind == 'public' and 'not_a_member' or 'room_not_found'

-- What was there before, in few commands; `false` is "not there".
local wanted, users, seen = {}, {}, {}
for at = 2, #ARGV, STRIDE do
  wanted[#wanted + 1] = ARGV[at + 1]
  if ARGV[at] == 'send' and ARGV[at + 3] ~= '' then
    wanted[#wanted + 1] = ARGV[at + 3]
  end
  if not seen[ARGV[at + 2]] then
    seen[ARGV[at + 2]] = true
    users[#users + 1] = ARGV[at + 2]
  end
end
local roles, seqs, stored = {}, {}, {}
for i, role in ipairs(read_many(roles_key, users)) do
  roles[users[i]] = role
end
for i, seq in ipairs(read_many(ids_key, wanted)) do
  seqs[wanted[i]] = tonumber(seq)
end

local function value_at(seq)
  if not stored[seq] then
    stored[seq] = redis.call('HGET', messages_key, seq)
  end
  return stored[seq]
end

local written, new_ids, stamps = {}, {}, {}

local function write(seq, value)
  revision = revision + 1
  value = string.format('%.0f', revision) .. ' ' .. value
  stored[seq] = value
  written[#written + 1] = seq
  stamps[seq] = revision
  return value
end

local function send(id, role, answered, sent_at, row)
  if not (read_only and KEEPS_ORDER or WRITES)[role] then
    return 'read_only_room'
  end
  if answered ~= '' and not seqs[answered] then
    return 'question_not_found'
  end
  last_seq = last_seq + 1
  seqs[id] = last_seq
  new_ids[#new_ids + 1] = id
  new_ids[#new_ids + 1] = last_seq
  last_message_at = sent_at
  write(last_seq, id .. ' ' .. row)
  return { last_seq, revision }
end

-- The list of reactions as it becomes, nil if it is so already.
local function reacted(before, emoji, user, on)
  local after, there = {}, false
  for _, pair in ipairs(before) do
    local chosen, by = pair[1], pair[2]
    if chosen == emoji then
      there = true
      local rest = {}
      for _, each in ipairs(by) do
        if each ~= user then
          rest[#rest + 1] = each
        end
      end
      if on == (#rest < #by) then
        return nil
      end
      if on then
        rest[#rest + 1] = user
      end
      by = rest
    end
    if #by > 0 then
      after[#after + 1] = { chosen, by }
    end
  end
  if not there then
    if not on then
      return nil
    end
    if #before >= max_reactions then
      return nil, 'limit_reached'
    end
    after[#after + 1] = { emoji, { user } }
  end
  return after
end

local function revise(what, id, user, role, argument, at)
  local seq = seqs[id]
  if not seq then
    return 'message_not_found'
  end
  local value = value_at(seq)
  local row = cjson.decode(string.match(value, '^%d+ %S+ (.*)$'))
  local idle = { seq, value, 0 }
  local deleted = row[DELETED_AT] ~= cjson.null
  if what == 'delete' then
    if row[AUTHOR] ~= user and not KEEPS_ORDER[role] then
      return 'not_your_message'
    end
    if deleted then
      return idle
    end
    row[TEXT], row[DELETED_AT], row[REACTIONS] = '', at, cjson.null
  elseif deleted then
    return 'message_not_found'
  elseif what == 'edit' then
    if row[AUTHOR] ~= user then
      return 'not_your_message'
    end
    if row[TEXT] == argument then
      return idle
    end
    row[TEXT], row[EDITED_AT] = argument, at
  else
    local before = row[REACTIONS] ~= cjson.null and row[REACTIONS] or {}
    local after, refusal = reacted(before, argument, user, what == 'react')
    if not after then
      return refusal or idle
    end
    -- An empty table would be written as an object.
    row[REACTIONS] = #after > 0 and after or cjson.null
  end
  return { seq, write(seq, id .. ' ' .. cjson.encode(row)), 1 }
end

local function apply(at)
  local what, id, user = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local role = roles[user]
  if what == 'send' and seqs[id] and (role or stranger ~= 'room_not_found') then
    return { seqs[id], value_at(seqs[id]), 0 }
  end
  if not role then
    return stranger
  end
  if what == 'send' then
    return send(id, role, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
  end
  -- One message that cannot be read must not fail the changes beside it.
  local fine, result = pcall(revise, what, id, user, role, ARGV[at + 3], ARGV[at + 4])
  return fine and result or 'internal_error'
end

local results = {}
for at = 2, #ARGV, STRIDE do
  results[#results + 1] = apply(at)
end
if #written == 0 then
  return results
end

local fields, scores, done = {}, {}, {}
for _, seq in ipairs(written) do
  if not done[seq] then
    done[seq] = true
    fields[#fields + 1] = seq
    fields[#fields + 1] = stored[seq]
    scores[#scores + 1] = stamps[seq]
    scores[#scores + 1] = seq
  end
end
many('HSET', messages_key, fields)
many('ZADD', revisions_key, scores)
many('HSET', ids_key, new_ids)

if history_limit then
  first_seq, trimmed_revision = trim(history_limit, first_seq, last_seq, trimmed_revision, messages_key,
    ids_key, revisions_key)
end
redis.call('HSET', room_key, 'revision', revision, 'last_seq', last_seq, 'first_seq', first_seq,
  'trimmed_revision', trimmed_revision, 'last_message_at', last_message_at)
return results
