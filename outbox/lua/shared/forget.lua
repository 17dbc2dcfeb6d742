-- forget: what goes with the events of a lane that are discarded. Needs: clock, pump, lane, barrier, advance, breaker.

-- A replay run counts an event that was discarded on its way as one that was never replayed. replayed is what `replaying`
-- holds for the lane.
local function forget_replay(lane, replayed, id)
  if replayed and string.sub(replayed, 1, 16) == id then
    redis.call('HDEL', replaying, lane)
    redis.call('HINCRBY', prefix .. 'replay:' .. string.sub(replayed, 17), 'replayed', -1)
  end
end

-- What is known of a lane's head, which has gone.
local function forget_head(lane, head)
  local barrier, waits_in = barrier_of(lane, head or '')
  if barrier > 0 then
    redis.call('ZREM', waits_in, lane)
  end
  redis.call('HDEL', lease, lane)
  redis.call('HDEL', trying, lane)
  redis.call('ZREM', failing, lane)
  give_back_probe(lane)
end

-- All that names a lane in which nothing is left; head was its last one, if there was any.
local function forget_lane(lane, head)
  forget_head(lane, head)
  redis.call('HDEL', suspects_of(app_of(lane)), lane)
  redis.call('ZREM', due_key(lane), lane)
  redis.call('HDEL', replaying, lane)
  let_pass(lane, nil)
end
