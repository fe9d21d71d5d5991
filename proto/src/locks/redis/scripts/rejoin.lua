-- When those who went on alone go back to the shared budget, all at the same moment: else the first would be given the
-- whole rate while the others still use their parts of it. The first to come back after an outage sets the moment, and from
-- then on all buckets count as having been empty at it.
--
-- KEYS: the moment in milliseconds, the same for buckets in microseconds. ARGV: how long the others may need to notice, in milliseconds.
-- Answers how long to wait, in milliseconds.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local grace = tonumber(ARGV[1])

local moment = tonumber(redis.call('GET', KEYS[1]))
if not moment or moment <= now or moment > now + grace then
  moment = now + grace
  redis.call('SET', KEYS[1], string.format('%.17g', moment), 'PX', grace)
  redis.call('SET', KEYS[2], string.format('%.17g', moment * 1000))
end
return moment - now
