-- look: is there a lane that may be claimed, and has nobody been told? For the pump.
-- KEYS: apps hint quarantine_apps quarantine_turn lingering
-- ARGV: prefix hint_ms
-- Returns: {1 if the caller should publish a hint else 0, ms for which something could have been claimed and was not}
-- hint_ms 0 only looks: nobody is told to publish.
-- Invariant: at most one caller in hint_ms is told to publish, until a claim takes the hint back; none while a delivery
--   lingers, which is called by itself.
-- The ms do not count quarantine: its lanes may rightly wait for each other for a long time.
-- Shared: clock pump quarantine
local apps, hint, quarantine_apps, quarantine_turn, lingering = unpack(KEYS)
local prefix, hint_ms = unpack(ARGV)
-- body
local APPS_AT_ONCE = 64

local ready, unclaimed = 0, 0
local open = redis.call('ZRANGEBYSCORE', apps, '-inf', now, 'WITHSCORES', 'LIMIT', 0, APPS_AT_ONCE)
for i = 1, #open, 2 do
  local first = redis.call('ZRANGEBYSCORE', prefix .. 'due:' .. open[i], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  if first[1] then
    ready = 1
    unclaimed = math.max(unclaimed, now - math.max(tonumber(first[2]), tonumber(open[i + 1])))
  end
end
if tonumber(hint_ms) == 0 then
  return {0, unclaimed}
end
if ready == 0 and redis.call('EXISTS', quarantine_turn) == 0 then
  local some = redis.call('ZRANGE', quarantine_apps, 0, APPS_AT_ONCE - 1)
  for _, app in ipairs(some) do
    if quarantined(app, 1)[1] then
      ready = 1
    end
  end
  if #some == APPS_AT_ONCE then -- there may be more: a claim goes through them in turn
    ready = 1
  end
end
redis.call('ZREM', apps, '') -- a first write that a full Redis allows
if ready == 1 and is_lingering() then
  ready = 0
elseif ready == 1 then
  if not redis.call('SET', hint, '1', 'NX', 'PX', hint_ms) then
    if redis.call('PTTL', hint) > tonumber(hint_ms) then -- the clock was set back, and the hint lasts as long as the step
      redis.call('SET', hint, '1', 'PX', hint_ms)
    else
      ready = 0
    end
  end
elseif #open == 2 * APPS_AT_ONCE then
  for i = 1, #open, 2 do -- all idle: behind the others with them, or those would never be looked at
    redis.call('ZADD', apps, now, open[i])
  end
end
return {ready, unclaimed}
