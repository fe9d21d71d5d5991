-- One room: what each token inside wants, what it holds, and when that ends. The arithmetic of `Room` in room.rs, step for
-- step; both pass one conformance suite, so change both or neither.
--
-- KEYS: the room (a hash). ARGV: token, places wanted, places in use, places there are, time in milliseconds.
-- Answers how many places the token may use.

local token, wanted, in_use = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local places, ttl = tonumber(ARGV[4]), tonumber(ARGV[5])
local room = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local had, others, held, asked, one_has_none = 0, 0, 0, 0, false
local all = redis.call('HGETALL', room)
for at = 1, #all, 2 do
  local wants, holds, ends = string.match(all[at + 1], '^(%d+) (%d+) (%d+)$')
  wants, holds, ends = tonumber(wants), tonumber(holds), tonumber(ends)
  -- So far ahead only when the server's clock was set back: a place of somebody dead must not last until it caught up.
  if not ends or ends <= now or ends > now + 2 * ttl then
    redis.call('HDEL', room, all[at])
  elseif all[at] == token then
    had = holds
  else
    others, held, asked = others + 1, held + holds, asked + wants
    one_has_none = one_has_none or holds == 0
  end
end

if wanted == 0 and in_use == 0 then
  redis.call('HDEL', room, token)
  return 0
end
local free = math.max(places - held, 0)
local part = math.max(math.floor(places / (others + 1)), 1)
local may = math.min(wanted, free, math.max(part, places - asked))
-- There are more of us than places: whoever had one and is between two calls lets the next one in.
if had > 0 and in_use == 0 and others >= places and one_has_none then
  may = 0
end
redis.call('HSET', room, token, string.format('%d %d %.17g', wanted, math.max(may, in_use), now + ttl))
redis.call('PEXPIRE', room, math.max(ttl, redis.call('PTTL', room)))
return may
