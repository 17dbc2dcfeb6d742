-- pull_back: bring back what a step back of Redis's clock has left scheduled further ahead than anything can be.
-- KEYS: apps lease trying replays quarantine_turn wake wake_delivery lingering
-- ARGV: prefix first_app page wait_ms lease_ms patience_ms only_look
-- Returns: {apps, lanes, rank of the app to go on with or 0, 1 if there is more to do now else 0, 1 if an app has a further
--   page else 0}: how many apps and lanes were too far ahead
-- Invariant: nothing is sent and nothing is counted. A lane that is leased becomes due after the longest lease, so that
--   its POST can end first; every other lane is due now. A turn in quarantine that would outlast that ends. An app that the circuit breaker paused waits for the length of
--   that pause once more, an open app is open again, and an operator's pause stays.
-- Longest legitimate waits: wait_ms of a lane whose head has failed, lease_ms of a lease, patience_ms of a replay run.
-- page: of each app's two schedules BATCH lanes are looked at, the furthest ahead first; the next page has the next BATCH. So lanes that
-- wait rightly do not hide the others.
-- only_look '1' counts and writes nothing. Apps are looked at by their rank, APPS_AT_ONCE in a call; one that moves between
-- two calls may be passed over until the next sweep.
-- Shared: clock pump record lane barrier
local apps, lease, trying, replays, quarantine_turn, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, first_app, page, wait_ms, lease_ms, patience_ms, only_look = unpack(ARGV)
-- body
local APPS_AT_ONCE = 64
local BATCH = 500         -- members of one sorted set
local OPEN_MS = 1000      -- an open app is never ahead; clocks that are being adjusted go back by less
local NEWER_MS = 5000     -- newer.lua: a head that was never tried waits so long for a newer worker,
local GUEST_MS = 60000    -- and barrier.lua: so long for its guest
local OPERATOR = '(9007199254740991' -- pause.lua

local apply = only_look ~= '1'
wait_ms, lease_ms = tonumber(wait_ms), tonumber(lease_ms)

-- The members of a sorted set of times that lie further ahead than by_ms, the furthest first, each with its time; BATCH of
-- them behind the first offset.
local function ahead(key, by_ms, offset)
  local bound = string.format('(%.0f', now + by_ms)
  return redis.call('ZREVRANGEBYSCORE', key, OPERATOR, bound, 'WITHSCORES', 'LIMIT', offset, BATCH)
end

-- Whether an app was too far ahead.
local function pull_app(app, open_at)
  local outage = prefix .. 'outage:' .. app
  local state = redis.call('HMGET', outage, 'since', 'probe', 'until', 'pause_ms')
  local since, pause_ms, most = tonumber(state[1]), tonumber(state[4] or 0), 0
  if since then
    most = math.max(pause_ms, state[2] and lease_ms or 0)
  end
  if open_at <= now + (since and most or OPEN_MS) then
    return false
  end
  if apply then
    redis.call('ZADD', apps, now + most, app)
    if since then
      local until_ms = math.min(tonumber(state[3] or 0), now + pause_ms)
      redis.call('HSET', outage, 'since', math.min(since, now), 'until', until_ms)
    end
    call_pump()
  end
  return true
end

-- The longest that a lane may wait from now, by what is stored of it.
local function longest_wait(lane, leased, tried)
  if leased then
    return lease_ms
  end
  if tried and #tried >= 36 and not crashes(tried) then -- in quarantine there is no delay between two attempts
    local last_at = struct.unpack('>I8', tried, 29) -- trying.py; an attempt in the future was made before the step
    return last_at <= now + OPEN_MS and wait_ms or 0
  end
  return barrier_of(lane, redis.call('LINDEX', lane_key(lane), 0) or '') > 0 and GUEST_MS or NEWER_MS
end

-- How many lanes of a schedule's page were too far ahead, whether there may be more of them here, and whether the page is
-- full.
local function pull_lanes(schedule)
  local found = ahead(schedule, NEWER_MS, page * BATCH)
  if #found == 0 then
    return 0, false, false
  end
  local lanes, moved = {}, {}
  for i = 1, #found, 2 do
    lanes[#lanes + 1] = found[i]
  end
  local leased, tried = redis.call('HMGET', lease, unpack(lanes)), redis.call('HMGET', trying, unpack(lanes))
  for i, lane in ipairs(lanes) do
    if tonumber(found[2 * i]) > now + longest_wait(lane, leased[i], tried[i]) then
      moved[#moved + 1] = leased[i] and now + lease_ms or now
      moved[#moved + 1] = lane
    end
  end
  if apply and #moved > 0 then
    redis.call('ZADD', schedule, unpack(moved))
    call_pump()
  end
  local full = #lanes == BATCH
  return #moved / 2, apply and #moved > 0 and full, full
end

if apply then
  redis.call('ZREM', apps, '') -- a first write that a full Redis allows
end
local apps_moved, lanes_moved, more, further = 0, 0, 0, 0
local far = ahead(apps, 0, 0)
for i = 1, #far, 2 do
  if pull_app(far[i], tonumber(far[i + 1])) then
    apps_moved = apps_moved + 1
  end
end
local runs = ahead(replays, tonumber(patience_ms), 0)
for i = 1, apply and #runs or 0, 2 do
  redis.call('ZADD', replays, now, runs[i])
end
if apply and redis.call('PTTL', quarantine_turn) > lease_ms then -- its holder has died, or takes the turn again
  redis.call('DEL', quarantine_turn)
end
local rank = tonumber(first_app)
local some = redis.call('ZRANGE', apps, rank, rank + APPS_AT_ONCE - 1)
for _, app in ipairs(some) do
  local unfinished = false
  for _, name in ipairs({'due:', 'quarantine:'}) do
    local moved, unfinished_here, full = pull_lanes(prefix .. name .. app)
    lanes_moved = lanes_moved + moved
    further = full and not unfinished_here and 1 or further
    unfinished = unfinished or unfinished_here
  end
  if unfinished then
    more = 1
    break
  end
  rank = rank + 1
end
if more == 0 and #some < APPS_AT_ONCE then
  rank = 0
end
return {apps_moved, lanes_moved, rank, more, further}
