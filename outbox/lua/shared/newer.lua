-- newer: a head whose record a newer release wrote waits for a worker of that release. Needs: clock, record.
-- The key newer is a sorted set: lane -> when a claim last met such a head there. It says where to look; status finds
-- out whether a worker that is alive can read the head. Only a claim that meets such a head pays for it; what forgets
-- the lane takes it away (forget.lua).
local NEWER_MS = 5000        -- until a claim looks at the lane again
local NEWER_KEPT_MS = 600000 -- behind a backlog a lane is not looked at for minutes
local newer_met = 0          -- by this call

-- Whether the caller cannot read the lane's head. Then the lane is put off in its schedule, and noted.
local function waits_for_newer(lane, record, version, scheduled)
  if version_of(record) <= tonumber(version) then
    return false
  end
  redis.call('ZADD', scheduled, now + NEWER_MS, lane)
  redis.call('ZADD', newer, now, lane)
  if newer_met == 0 then
    redis.call('ZREMRANGEBYSCORE', newer, '-inf', now - NEWER_KEPT_MS)
    redis.call('ZREMRANGEBYSCORE', newer, now + NEWER_KEPT_MS, '+inf') -- from before a step back of the clock
    redis.call('PEXPIRE', newer, NEWER_KEPT_MS)
  end
  newer_met = newer_met + 1
  return true
end
