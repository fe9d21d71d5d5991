-- The workers that are alive, each with its slots and the time at which it counts as dead unless it says otherwise.
--
-- KEYS: the workers (a hash). ARGV: verb, worker, slots, time in milliseconds. Answers {workers, slots}.

local verb, worker, slots, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local fleet = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if verb == 'withdraw' then
  redis.call('HDEL', fleet, worker)
elseif verb == 'announce' then
  redis.call('HSET', fleet, worker, string.format('%.17g', now + ttl) .. ' ' .. slots)
end

local count, sum, all = 0, 0, redis.call('HGETALL', fleet)
for at = 1, #all, 2 do
  local ends, has = string.match(all[at + 1], '^(%d+) (%d+)$')
  ends = tonumber(ends)
  -- Further ahead than anybody can have said: the server's clock was set back, and who lives will say so again.
  if not ends or ends <= now or ends > now + ttl then
    redis.call('HDEL', fleet, all[at])
  else
    count, sum = count + 1, sum + tonumber(has)
  end
end
if verb == 'announce' then redis.call('PEXPIRE', fleet, ttl) end
return {count, sum}
