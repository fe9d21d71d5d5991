-- One lock: the token of its holder, which the server forgets when the lock's time is over.
--
-- KEYS: the lock. ARGV: verb, token, time in milliseconds.

local verb, token = ARGV[1], ARGV[2]
local holder = redis.call('GET', KEYS[1])

if verb == 'held' then
  return holder and 1 or 0
end
if verb == 'release' then
  if holder == token then redis.call('DEL', KEYS[1]) end
  return 1
end
if holder and holder ~= token then
  return 0
end
redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
return 1
