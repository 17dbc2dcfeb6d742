-- lane: what the transitions of a lane's head share. Needs: clock, record; where a lane is given back also pump.
local function lane_key(lane)
  return prefix .. 'lane:' .. lane
end

local function app_of(lane)
  return string.match(lane, '^[^/]*')
end

local function due_key(lane)
  return prefix .. 'due:' .. app_of(lane)
end

-- Whether the caller still holds the lane, and whether its record is still the head.
local function standing(lane, fence, id)
  local held = redis.call('HGET', lease, lane)
  if not held or struct.unpack('>I8', held) ~= tonumber(fence) then
    return 'SUPERSEDED'
  end
  local head = redis.call('LINDEX', lane_key(lane), 0)
  local worker = string.sub(held, 25)
  if not head or id_of(head) ~= id then
    return 'ALREADY', head, worker
  end
  return 'HEAD', head, worker
end

-- A decision that rests on an attempt that counted, while the outage guard has paused the app since: the attempt is to
-- count no more.
local function overtaken(lane, if_open)
  return if_open == '1' and redis.call('HEXISTS', prefix .. 'outage:' .. app_of(lane), 'since') == 1
end

-- A probe that ends without the guard's hearing of it (a shutdown, a record that cannot be read): the next one may go.
local function give_back_probe(lane)
  local app = app_of(lane)
  if redis.call('HGET', prefix .. 'outage:' .. app, 'probe') == lane then
    redis.call('HDEL', prefix .. 'outage:' .. app, 'probe')
    if redis.call('HEXISTS', prefix .. 'outage:' .. app, 'operator') == 0 then
      redis.call('ZADD', apps, now, app)
    end
  end
end

-- A lane that was taken after an outage and given back untried: its token is free for another.
local function give_back_token(lane)
  local outage = prefix .. 'outage:' .. app_of(lane)
  if redis.call('HEXISTS', outage, 'tokens') == 1 then
    redis.call('HINCRBY', outage, 'tokens', 1)
  end
end

-- Lease lanes of an app: {lane, fence as 8 bytes, head record, worker, lease_ms}, ...
local function hold(app, held)
  if #held == 0 then
    return
  end
  local lanes, leases, due = {}, {}, {}
  for i, one in ipairs(held) do
    local lane, fence, record, worker, lease_ms = unpack(one)
    lanes[i] = lane
    leases[2 * i - 1], leases[2 * i] = lane, fence .. id_of(record) .. worker
    due[2 * i - 1], due[2 * i] = now + lease_ms, lane
  end
  redis.call('HDEL', lease, unpack(lanes)) -- a first write that a full Redis allows
  redis.call('HSET', lease, unpack(leases))
  redis.call('ZADD', prefix .. 'due:' .. app, unpack(due))
end

-- This event may have reached the tracker without our knowing: should it arrive twice, it is one of these. After a step
-- back of the clock the new mark still stands behind the older ones, so that the trimming does not take it.
local function mark_doubtful(id)
  local latest = tonumber(redis.call('ZRANGE', doubtful, -1, -1, 'WITHSCORES')[2] or 0)
  redis.call('HINCRBY', ledger, 'duplicates_possible', 1)
  redis.call('ZADD', doubtful, latest > now and latest + 1 or now, id)
  redis.call('ZREMRANGEBYRANK', doubtful, 0, -10001)
end

local function make_due(lane, delay_ms)
  redis.call('HDEL', lease, lane)
  redis.call('ZADD', due_key(lane), now + delay_ms, lane)
  if delay_ms == 0 then
    call_pump()
  end
end
