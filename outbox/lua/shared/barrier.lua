-- barrier: the order across a login. Needs: clock, record, lane.
-- behind:GUEST_LANE is a sorted set: the lanes whose head waits for that guest's lane -> the head's barrier.
-- Only visitors' lanes wait, and only for guests' lanes, so nobody waits in a circle.
-- A head's barrier, and the set of those who wait for its guest; 0 when it has none, or is no record at all.
local function barrier_of(lane, record)
  local barrier = #record < 45 and 0 or struct.unpack('>I8', record, 34)
  if barrier == 0 then
    return 0
  end
  local guest = guest_lane(app_of(lane), record)
  return barrier, prefix .. 'behind:' .. guest, lane_key(guest)
end

-- Whether a head must wait, because its guest's lane still holds an event from before it. Then its lane, which stands in
-- the schedule `scheduled`, is out of the way until the last of these has gone. The recheck is a safety net: a Redis may
-- have lost its last writes.
local function waits_for_guest(lane, record, scheduled)
  local RECHECK_MS = 60000

  local barrier, behind, guest_lane = barrier_of(lane, record)
  if barrier == 0 then
    return false
  end
  redis.call('ZREM', behind, lane)
  local first = redis.call('LINDEX', guest_lane, 0)
  if not first or seq_of(first) > barrier then
    return false
  end
  redis.call('ZADD', behind, barrier, lane)
  redis.call('ZADD', scheduled, now + RECHECK_MS, lane)
  return true
end
