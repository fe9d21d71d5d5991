-- One bucket of the rate budget: the arithmetic of `Bucket` in budget.rs, step for step, on the server's own time. A test
-- drives both side by side and compares every answer to the last bit, so change both or neither.
--
-- KEYS: the bucket (a hash), the moment at which all buckets count as empty (in microseconds).
-- ARGV: verb, calls a second, calls a second to begin with, burst, figure (permits, or a pause in microseconds), and in
--       tests alone the time in microseconds.
-- Answers {permits, wait in seconds, pause in microseconds, rate}; to `rate` only the rate, or nil.

local verb, per_second, start, burst = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local figure, now = tonumber(ARGV[5]), tonumber(ARGV[6])
local bucket = KEYS[1]

if verb == 'rate' then
  return redis.call('HGET', bucket, 'rate')
end

local BACK_OFF, ONE_CUT, REST, CLIMB, FLOOR = 0.7, 1000000, 2000000, 20, 0.5
local LONGEST_WAIT, KEPT, AHEAD = 3600, 3600000, 60000000

if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- From microseconds, rounded as Duration::as_secs_f64 rounds.
local function seconds(micros)
  if micros <= 0 then return 0 end
  return math.floor(micros / 1000000) + (micros % 1000000) * 1000 / 1000000000
end

local function exact(number)
  return string.format('%.17g', number)
end

-- What was granted before this moment is not known here: the server's memory begins with it, or those who had gone on alone
-- came back. Further ahead than anybody sets it only when the clock was set back.
local emptied = tonumber(redis.call('GET', KEYS[2]))
if not emptied or emptied > now + AHEAD then
  emptied = now
  redis.call('SET', KEYS[2], exact(emptied))
end

local floor = math.min(FLOOR, per_second)
local rate, tokens, refilled, paused, cut, climbed
local kept = redis.call('HMGET', bucket, 'rate', 'tokens', 'refilled', 'paused', 'cut', 'climbed', 'seen')
if kept[1] then
  rate, tokens, refilled = tonumber(kept[1]), tonumber(kept[2]), tonumber(kept[3])
  paused, cut, climbed = tonumber(kept[4]), tonumber(kept[5]), tonumber(kept[6])
  -- A clock that was set back, or a new primary whose clock is behind: no time has passed, and none is owed.
  local back = tonumber(kept[7]) - now
  if back > 0 then
    refilled, paused, climbed = refilled - back, paused - back, climbed - back
    if cut then cut = cut - back end
  end
  if emptied <= now and refilled < emptied then
    tokens, refilled = 0, emptied
  end
else
  rate, tokens, refilled = math.max(math.min(start, per_second), floor), 0, math.min(emptied, now)
  paused, cut, climbed = now, nil, now
end
rate = math.min(rate, per_second)

local function refill()
  tokens = math.min(tokens + seconds(now - refilled) * rate, burst)
  refilled = math.max(refilled, now)
end

local permits, wait, pause = 0, 0, 0
if verb == 'take' and paused > now then
  pause = paused - now
elseif verb == 'take' then
  refill()
  permits = math.min(math.floor(tokens), figure)
  if permits == 0 then
    wait = math.min(math.max(1 - tokens, 0) / rate, LONGEST_WAIT)
  else
    tokens = tokens - permits
  end
elseif verb == 'throttled' then
  refill()
  paused = math.max(paused, now + figure)
  tokens = 0
  refilled = math.max(paused, refilled)
  if not cut or now - cut >= ONE_CUT then
    rate = math.max(rate * BACK_OFF, floor)
    cut, climbed = now, now + REST
  end
elseif verb == 'fine' then
  refill()
  rate = math.min(rate + per_second / 2 / CLIMB * seconds(now - climbed), per_second)
  climbed = math.max(climbed, now)
elseif verb == 'unused' then
  refill()
  tokens = math.min(tokens + figure, burst)
else
  return redis.error_reply('ERR a bucket knows no ' .. verb)
end

redis.call('HSET', bucket, 'rate', exact(rate), 'tokens', exact(tokens), 'refilled', exact(refilled),
  'paused', exact(paused), 'cut', cut and exact(cut) or '', 'climbed', exact(climbed), 'seen', exact(now))
redis.call('PEXPIRE', bucket, exact(KEPT + math.ceil(math.max(paused - now, 0) / 1000)))
return {permits, exact(wait), exact(pause), exact(rate)}
