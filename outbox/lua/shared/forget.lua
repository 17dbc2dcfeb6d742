-- forget: what goes with the events of a lane that are discarded. Needs: clock, pump, lane, barrier, advance, breaker.

-- What is known of a lane's head, which has gone.
local function forget_head(lane, head)
  local barrier, waits_in = barrier_of(lane, head or '')
  if barrier > 0 then
    redis.call('ZREM', waits_in, lane)
  end
  redis.call('HDEL', lease, lane)
  forget_attempts(app_of(lane), {lane})
  give_back_probe(lane)
end

-- All that names a lane in which nothing is left; head was its last one, if there was any.
local function forget_lane(lane, head)
  forget_head(lane, head)
  redis.call('HDEL', suspects_of(app_of(lane)), lane)
  redis.call('ZREM', due_key(lane), lane)
  redis.call('ZREM', newer, lane)
  let_pass(lane, nil)
end
