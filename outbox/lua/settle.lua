-- settle: the tracker has answered 200 to the heads of leased lanes of an app. They are gone; the lanes go on.
-- KEYS: ledger apps lease trying failing wake replaying
-- ARGV: prefix app version held
-- Returns: {1 if this ended the app's outage else 0, the lane's next record or '', ...}, a record for each of held
-- Invariant: only the holder of the fence changes a lane; a 200 ends the app's outage and its list of suspects. A head that
--   has gone already is not counted again.
-- held is a row of leases: length of the lane (2 bytes), lane, fence (8), id of the head (16), ms to hold the lane on (8).
-- 0 ms says that the caller takes no further record of this lane. What many write in the same place is written once for
-- all of them.
-- Shared: clock pump record lane barrier advance
local ledger, apps, lease, trying, failing, wake, replaying = unpack(KEYS)
local prefix, app, version, held = unpack(ARGV)
-- body
-- After an outage each 200 lets two more begin, so the load doubles from one round of answers to the next; a tracker that
-- has taken 512 at a time is well again.
local RAMP_FIRST, RAMP_STEP, RAMP_OVER = 2, 2, 512

local lanes, fences, ids, leases_ms = {}, {}, {}, {}
local at, count = 1, 0
while at <= #held do
  count = count + 1
  lanes[count], fences[count], ids[count], leases_ms[count], at = struct.unpack('>I2c0c8c16I8', held, at)
end

local going, delivered, delivered_ids = {}, {}, {}
for i, holder in ipairs(redis.call('HMGET', lease, unpack(lanes))) do
  local lane = lanes[i]
  if holder and string.sub(holder, 1, 8) == fences[i] then
    local key = lane_key(lane)
    local head = string.sub(holder, 9, 24) == ids[i] and redis.call('LPOP', key)
    if head and id_of(head) == ids[i] then
      delivered[#delivered + 1] = lane
      delivered_ids[#delivered] = ids[i]
    elseif head then
      redis.call('LPUSH', key, head) -- not what the lease is for: somebody has changed the list by hand
    end
    going[i] = {lane, redis.call('LINDEX', key, 0), fences[i], string.sub(holder, 25), leases_ms[i]}
  end
end

local ended = 0
if #delivered > 0 then
  redis.call('HDEL', trying, unpack(delivered))
  redis.call('ZREM', failing, unpack(delivered))
  redis.call('HINCRBY', ledger, 'delivered', #delivered)
  redis.call('HINCRBY', ledger, 'waiting', -#delivered)
  beat('delivered', #delivered)
  end_replays(delivered, delivered_ids, 'delivered')

  local outage = prefix .. 'outage:' .. app
  local state = redis.call('HMGET', outage, 'since', 'tokens', 'operator')
  redis.call('DEL', outage .. ':lanes')
  redis.call('HSET', outage, 'last_ok', now, 'unreachable', 0)
  local tokens = state[2]
  if state[1] then
    ended, tokens = 1, RAMP_FIRST
    redis.call('HDEL', outage, 'since', 'reason', 'fault', 'kind', 'pauses', 'until', 'pause_ms', 'probe')
    redis.call('HSET', outage, 'tokens', RAMP_FIRST, 'resumed', now)
    if not state[3] then
      redis.call('ZADD', apps, now, app)
      call_pump()
    end
  end
  local more = RAMP_STEP * (#delivered - ended)
  if tokens and more > 0 and redis.call('HINCRBY', outage, 'tokens', more) > RAMP_OVER then
    redis.call('HDEL', outage, 'tokens', 'resumed')
  end
end
return {ended, unpack(advance(app, count, going, version))}
