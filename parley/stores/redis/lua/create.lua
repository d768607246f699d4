-- Makes a room, and its owner the first member.
-- KEYS: room, members, member-revisions, roles, present. ARGV: owner id or '', role, the owner's membership,
-- the revision that it takes, and the room's fields and values.

local owner = ARGV[1]
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
if owner ~= '' then
  redis.call('HSET', KEYS[2], owner, ARGV[4] .. ' ' .. ARGV[3])
  redis.call('HSET', KEYS[4], owner, ARGV[2])
  redis.call('ZADD', KEYS[5], 0, owner)
  if ARGV[4] ~= '0' then
    redis.call('ZADD', KEYS[3], ARGV[4], owner)
  end
end
return 0
