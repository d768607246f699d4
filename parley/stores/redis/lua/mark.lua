-- Moves a read mark forward: {where it is, 1 if it moved, how many members there are}, or the code of a refusal.
-- KEYS: room, roles, marks. ARGV: user id, seq.

local room = redis.call('HMGET', KEYS[1], 'kind', 'closed_at', 'last_seq', 'member_count')
if not room[1] or room[2] then
  return 'room_not_found'
end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  return room[1] == 'public' and 'not_a_member' or 'room_not_found'
end
local before = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or 0)
local after = math.max(before, math.min(tonumber(ARGV[2]), tonumber(room[3])))
if after ~= before then
  redis.call('HSET', KEYS[3], ARGV[1], after)
end
return { after, after ~= before and 1 or 0, tonumber(room[4]) }
