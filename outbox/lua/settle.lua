-- settle: the tracker has answered 200 to the head of a leased lane. It is delivered and gone; the lane goes on.
-- KEYS: ledger apps lease trying failing wake replaying
-- ARGV: prefix lane fence id lease_ms version
-- Returns: {'SETTLED', next record or '', 1 if this ended the app's outage else 0} | {'ALREADY', next record or '', 0}
--   | {'SUPERSEDED', '', 0}
-- Invariant: only the holder of the fence changes the lane; a 200 ends the app's outage and its list of suspects.
-- lease_ms 0 says that the caller takes no further record of this lane.
-- Shared: clock pump lane barrier advance
local ledger, apps, lease, trying, failing, wake, replaying = unpack(KEYS)
local prefix, lane, fence, id, lease_ms, version = unpack(ARGV)
-- body
-- After an outage each 200 lets two more begin, so the load doubles from one round of answers to the next; a tracker that
-- has taken 512 at a time is well again.
local RAMP_FIRST, RAMP_STEP, RAMP_OVER = 2, 2, 512

local status, head, worker = standing(lane, fence, id)
if status == 'SUPERSEDED' then
  return {status, '', 0}
end
if status == 'ALREADY' then
  return {status, advance(lane, fence, worker, lease_ms, version), 0}
end
redis.call('HDEL', trying, lane)
redis.call('ZREM', failing, lane)
redis.call('LPOP', lane_key(lane))
redis.call('HINCRBY', ledger, 'delivered', 1)
redis.call('HINCRBY', ledger, 'waiting', -1)
beat('delivered')
end_replay(lane, id, 'delivered')

local app = app_of(lane)
local outage = prefix .. 'outage:' .. app
local state = redis.call('HMGET', outage, 'since', 'tokens', 'operator')
redis.call('DEL', outage .. ':lanes')
redis.call('HSET', outage, 'last_ok', now, 'unreachable', 0)
if state[1] then
  redis.call('HDEL', outage, 'since', 'reason', 'kind', 'pauses', 'until', 'probe')
  redis.call('HSET', outage, 'tokens', RAMP_FIRST, 'resumed', now)
  if not state[3] then
    redis.call('ZADD', apps, now, app)
    call_pump()
  end
elseif state[2] then
  if redis.call('HINCRBY', outage, 'tokens', RAMP_STEP) > RAMP_OVER then
    redis.call('HDEL', outage, 'tokens', 'resumed')
  end
end
return {'SETTLED', advance(lane, fence, worker, lease_ms, version), state[1] and 1 or 0}
