-- breaker: the circuit breaker of an app: its state, its reset, and how it limits claims. Needs: clock, pump, lane.
-- outage:APP holds the state (docs/redis.md has the fields); the breaker is open while `since` is set. outage:APP:lanes holds
-- its suspects: lane -> attempts counted since the app's last 200. trip.lua opens it.

-- After an outage each 200 lets two more lanes be claimed, so the load doubles from one round of answers to the next. A
-- tracker that has taken 512 at a time has recovered.
local START_TOKENS, TOKENS_PER_200, FULL_TOKENS = 2, 2, 512
local START_MS = 30000 -- the small start is over after this time in any case

local function breaker_of(app)
  return prefix .. 'outage:' .. app
end

local function suspects_of(app)
  return breaker_of(app) .. ':lanes'
end

-- The breaker closes; the app begins with a few lanes.
local function reset_breaker(app)
  local breaker = breaker_of(app)
  redis.call('HDEL', breaker, 'since', 'reason', 'fault', 'kind', 'pauses', 'until', 'pause_ms', 'probe')
  redis.call('DEL', suspects_of(app))
  redis.call('HSET', breaker, 'tokens', START_TOKENS, 'resumed', now, 'unreachable', 0)
end

-- The app's lanes may be claimed from now on.
local function open_app(app)
  redis.call('ZADD', apps, now, app)
  call_pump()
end

-- count events of the app were answered 200. Returns 1 if this closed the breaker, else 0.
local function note_200s(app, count)
  local breaker = breaker_of(app)
  local state = redis.call('HMGET', breaker, 'since', 'tokens', 'operator')
  local open, tokens, operator = state[1], state[2], state[3]
  redis.call('DEL', suspects_of(app))
  redis.call('HSET', breaker, 'last_ok', now, 'unreachable', 0)
  if open then
    reset_breaker(app)
    count, tokens = count - 1, START_TOKENS
    if not operator then
      open_app(app)
    end
  end
  if tokens and count > 0 and redis.call('HINCRBY', breaker, 'tokens', TOKENS_PER_200 * count) > FULL_TOKENS then
    redis.call('HDEL', breaker, 'tokens', 'resumed')
  end
  return open and 1 or 0
end

-- Whether the breaker is open, so that one lane may be claimed as a probe; else how many lanes may be, nil without a limit.
local function claim_limit(app)
  local breaker = breaker_of(app)
  local state = redis.call('HMGET', breaker, 'since', 'tokens', 'resumed')
  local open, tokens = state[1], tonumber(state[2])
  if tokens and math.abs(now - tonumber(state[3])) > START_MS then -- a start in the future: the clock was set back
    redis.call('HDEL', breaker, 'tokens', 'resumed')
    tokens = nil
  end
  return open, tokens
end

local function take_tokens(app, count)
  redis.call('HINCRBY', breaker_of(app), 'tokens', -count)
end

-- The lane's head is the probe; the next one may go when its lease is over.
local function begin_probe(app, lane, lease_ms)
  redis.call('HSET', breaker_of(app), 'probe', lane)
  redis.call('ZADD', apps, now + lease_ms, app)
end

-- A probe that ends without an answer (a shutdown, a record that cannot be read): the next one may go.
local function give_back_probe(lane)
  local app = app_of(lane)
  local breaker = breaker_of(app)
  if redis.call('HGET', breaker, 'probe') == lane then
    redis.call('HDEL', breaker, 'probe')
    if redis.call('HEXISTS', breaker, 'operator') == 0 then
      redis.call('ZADD', apps, now, app)
    end
  end
end

-- A lane of the small start is given back: its token is free for another.
local function give_back_token(lane)
  local breaker = breaker_of(app_of(lane))
  if redis.call('HEXISTS', breaker, 'tokens') == 1 then
    redis.call('HINCRBY', breaker, 'tokens', 1)
  end
end
