-- One room: the tokens inside, each with the time at which its place is free again.
--
-- KEYS: the room (a sorted set). ARGV: verb, token, places, time in milliseconds.

local verb, token, places, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local room = KEYS[1]

if verb == 'leave' then
  redis.call('ZREM', room, token)
  return 1
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', room, '-inf', now)
-- So far ahead only when the server's clock was set back: a place of somebody dead must not last until it caught up.
redis.call('ZREMRANGEBYSCORE', room, '(' .. string.format('%.17g', now + 2 * ttl), '+inf')
if not redis.call('ZSCORE', room, token) and redis.call('ZCARD', room) >= places then
  return 0
end
redis.call('ZADD', room, now + ttl, token)
redis.call('PEXPIRE', room, math.max(ttl, redis.call('PTTL', room)))
return 1
