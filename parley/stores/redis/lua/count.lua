-- How many there are in each list, all of one moment. KEYS: sorted sets.

local counts = {}
for i, key in ipairs(KEYS) do
  counts[i] = redis.call('ZCARD', key)
end
return counts
