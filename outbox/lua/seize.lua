-- seize: lease one lane to an operator, even before it is due and while its app is paused, but never from a worker.
-- KEYS: ledger lease trying failing doubtful quarantine_apps
-- ARGV: prefix lane worker token lease_ms
-- Returns: {'SEIZED', now ms, head record, trying or ''} | {'BUSY', its worker} | {'EMPTY'}
-- Invariant: a lane is leased to one holder at a time. A lease that is over was left behind: its head is marked doubtful,
--   as claim does.
-- Shared: clock record lane barrier abandoned
local ledger, lease, trying, failing, doubtful, quarantine_apps = unpack(KEYS)
local prefix, lane, worker, token, lease_ms = unpack(ARGV)
-- body
local record = redis.call('LINDEX', lane_key(lane), 0)
if not record then
  return {'EMPTY'}
end
local held = redis.call('HGET', lease, lane)
if held and due_at(lane) > now then
  return {'BUSY', holder_of(held)}
end
redis.call('ZREM', due_key(lane), lane)
redis.call('ZREM', quarantine_key(lane), lane)
local barrier, behind = barrier_of(lane, record)
if barrier > 0 then -- it waits for its guest no more; the next claim sees to it again
  redis.call('ZREM', behind, lane)
end
local tried = known(lane, record, redis.call('HGET', trying, lane), held)
hold(schedule_of(lane, tried), {{lane, token, record, worker, lease_ms}})
if crashes(tried) then
  redis.call('ZADD', quarantine_apps, 'NX', now, app_of(lane))
end
return {'SEIZED', now, record, tried}
