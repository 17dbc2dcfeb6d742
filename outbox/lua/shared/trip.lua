-- trip: whether a failed attempt opens the circuit breaker of its app, and whether it counts. Needs: clock, lane, breaker.
-- The arguments of fail.lua that say how the attempt failed are read as they are.
local CLOSED_LANES = 3 -- soon after a 200, a 403 of fewer visitors says nothing about the account
local CALM_TIMES = 5   -- soon after a 200, so many more lanes must fail: a few poison messages do not open the breaker

local unreachable_limit, lanes_limit, first_ms, max_ms, calm_ms, rejected_ms = struct.unpack('>I8I8I8I8I8I8', limits)
retry_after_ms = tonumber(retry_after_ms)

-- The state of an app's breaker. calm: there was a 200 in the last calm_ms; quiet_ms: how long ago.
local function read_breaker(app)
  local key = breaker_of(app)
  local state = redis.call('HMGET', key, 'since', 'kind', 'pauses', 'probe', 'until', 'pause_ms', 'last_ok', 'operator')
  local last_ok = tonumber(state[7])
  return {
    app = app,
    key = key,
    since = tonumber(state[1]),
    kind = state[2],
    pauses = tonumber(state[3] or 0),
    probe = state[4],
    -- further ahead it is only when the clock was set back
    until_ms = math.min(tonumber(state[5] or 0), now + tonumber(state[6] or 0)),
    calm = last_ok and math.abs(now - last_ok) < calm_ms,
    quiet_ms = last_ok and now - last_ok,
    operator = state[8],
  }
end

-- A process that gets no connection while another has had a 200 since its own last answer: the tracker only limits its
-- connections.
local function others_deliver(breaker)
  return breaker.calm and not breaker.since and breaker.quiet_ms >= 0 and breaker.quiet_ms < tonumber(unanswered_ms)
end

-- The app is paused until then; no lane is claimed before claims_at, when that is later (the lease of a probe). Only an
-- operator ends an operator's pause.
local function pause_until(breaker, until_ms, claims_at)
  breaker.until_ms = until_ms
  redis.call('HSET', breaker.key, 'until', until_ms, 'pause_ms', until_ms - now, 'reason', reason, 'fault', fault)
  if not breaker.operator then
    redis.call('ZADD', apps, math.max(until_ms, claims_at), breaker.app)
  end
end

-- A pause begins, or begins again after a failed probe. It ends no earlier than the tracker asked.
local function pause(breaker, wait_ms)
  redis.call('HDEL', breaker.key, 'probe')
  redis.call('HSET', breaker.key, 'pauses', breaker.pauses)
  pause_until(breaker, math.max(breaker.until_ms, now + math.max(math.floor(wait_ms * jitter), retry_after_ms)), 0)
end

-- What the suspects had counted since the last 200 is taken back, and they are due at once.
local function clear_suspects(app)
  local counted = redis.call('HGETALL', suspects_of(app))
  redis.call('DEL', suspects_of(app))
  for i = 1, #counted, 2 do
    local suspect = counted[i]
    local known = redis.call('HGET', trying, suspect)
    if known then
      local before = struct.unpack('>I2', known, 17)
      local attempts = struct.pack('>I2', math.max(0, before - tonumber(counted[i + 1])))
      redis.call('HSET', trying, suspect, string.sub(known, 1, 16) .. attempts .. string.sub(known, 19))
      if redis.call('HEXISTS', lease, suspect) == 0 then
        redis.call('ZADD', due_key(suspect), 'XX', now, suspect)
      end
    end
  end
end

-- How many unreachable answers came in a row, this one included.
local function unreachable_in_a_row(breaker)
  if kind == 'unreachable' then
    return redis.call('HINCRBY', breaker.key, 'unreachable', 1)
  end
  redis.call('HSET', breaker.key, 'unreachable', 0)
  return 0
end

-- How many lanes have failed since the last 200, this one included.
local function failing_lanes(app)
  local known = redis.call('HEXISTS', suspects_of(app), lane)
  return redis.call('HLEN', suspects_of(app)) + 1 - known
end

local function trips(breaker)
  local in_a_row, lanes, calm = unreachable_in_a_row(breaker), failing_lanes(breaker.app), breaker.calm
  return (retry_after_ms > 0 and (not calm or lanes >= 2))
    or (in_a_row >= unreachable_limit and (lanes >= 2 or sent == '0'))
    or (kind == 'closed' and (not calm or lanes >= CLOSED_LANES))
    or lanes >= lanes_limit * (calm and CALM_TIMES or 1)
end

-- The breaker opens: attempts count no more, nor do those of the suspects.
local function open_breaker(breaker)
  clear_suspects(breaker.app)
  redis.call('HDEL', breaker.key, 'tokens')
  redis.call('HSET', breaker.key, 'since', now, 'kind', kind)
  pause(breaker, first_ms)
end

-- An attempt fails while the breaker is open: of the probe, or of a POST from before the pause. The latter may lengthen the
-- pause, but the probe in flight stays the only one.
local function fails_while_open(breaker)
  if breaker.probe == lane then
    breaker.pauses = breaker.pauses + 1
    pause(breaker, math.min(first_ms * 2 ^ math.min(breaker.pauses, 30), max_ms))
  elseif retry_after_ms > 0 and now + retry_after_ms > breaker.until_ms then
    pause_until(breaker, now + retry_after_ms, tonumber(redis.call('ZSCORE', apps, breaker.app) or 0))
  end
  return breaker.kind == 'rejected' and now - breaker.since > rejected_ms
end

-- Returns whether the attempt counts, until when the app is paused (0: it is not), and 1 if this attempt began the pause.
local function judge(breaker)
  if breaker.since then
    return fails_while_open(breaker), breaker.until_ms, 0
  end
  if trips(breaker) then
    open_breaker(breaker)
    return false, breaker.until_ms, 1
  end
  redis.call('HINCRBY', suspects_of(breaker.app), lane, 1)
  give_back_token(lane)
  return true, 0, 0
end
