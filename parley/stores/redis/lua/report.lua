-- Notes which users are connected to a node: 1, or 0 if what it said before had run out.
-- KEYS: nodes, the node's users. ARGV: node id, until when in milliseconds, how many of the next have come, the
-- others went. The empty member is there so that a node without users is there too.

local node, ends_ms, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local holds = redis.call('EXISTS', KEYS[2])
local came, went = { '' }, {}
for at = 4, #ARGV do
  local list = at < 4 + count and came or went
  list[#list + 1] = ARGV[at]
end
many('SADD', KEYS[2], came)
many('SREM', KEYS[2], went)
redis.call('PEXPIREAT', KEYS[2], ends_ms)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('ZADD', KEYS[1], ends_ms, node)
return holds
