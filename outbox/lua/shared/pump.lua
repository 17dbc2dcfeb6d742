-- pump: how a worker is called when a lane has become due. Needs: clock.
-- A delivery that lingers waits on wake:delivery, a pump on wake, so that neither takes the other's call. lingering holds
-- the processes whose delivery lingers -> until when.
local MAX_LINGER_MS = 10000 -- a time further ahead is from before a step back of the clock

local function is_lingering()
  local latest = tonumber(redis.call('ZRANGE', lingering, -1, -1, 'WITHSCORES')[2])
  return latest and latest > now and latest <= now + MAX_LINGER_MS
end

local function call_pump()
  local list = is_lingering() and wake_delivery or wake
  if redis.call('LLEN', list) == 0 then
    redis.call('LPUSH', list, '1')
  end
end
