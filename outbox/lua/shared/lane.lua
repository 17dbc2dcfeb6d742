-- lane: what the transitions of a lane's head share. Needs: clock, record; where a lane is given back also pump.
local function lane_key(lane)
  return prefix .. 'lane:' .. lane
end

local function app_of(lane)
  return string.match(lane, '^[^/]*')
end

-- An app has two schedules, due and quarantine, and a lane with records stands in one of them: lane -> from when it may be
-- claimed. A crash ends all POSTs that are in flight in the process, so an event that crashes its worker is found on one
-- lane among many. A head with two crashed workers goes into quarantine and is sent with nothing beside it: from then on
-- only its own crashes count against it.
local QUARANTINED_FROM = 2

local function due_key(lane)
  return prefix .. 'due:' .. app_of(lane)
end

local function quarantine_key(lane)
  return prefix .. 'quarantine:' .. app_of(lane)
end

-- Whether a head belongs in quarantine, by what `trying` holds of it ('' or nil: nothing).
local function crashes(tried)
  return tried and #tried >= 20 and struct.unpack('>I2', tried, 19) >= QUARANTINED_FROM
end

-- The schedule in which a lane belongs, and the other one.
local function schedule_of(lane, tried)
  if crashes(tried) then
    return quarantine_key(lane), due_key(lane)
  end
  return due_key(lane), quarantine_key(lane)
end

-- When the lane is due, in whichever schedule it stands; 0 when in none.
local function due_at(lane)
  local at = redis.call('ZSCORE', due_key(lane), lane) or redis.call('ZSCORE', quarantine_key(lane), lane)
  return tonumber(at or 0)
end

-- Put a lane into the schedule where its head belongs.
local function schedule(lane, at, tried)
  local here, other = schedule_of(lane, tried)
  redis.call('ZREM', other, lane)
  redis.call('ZADD', here, at, lane)
end

-- A stored lease: the fencing token of its claim (40 bytes), the id of the head (16), the holder's name (outbox/lease.py).
local function token_of(held)
  return string.sub(held, 1, 40)
end

-- The first 32 bytes of a token are those of its process.
local function process_of(token)
  return string.sub(token, 1, 32)
end

local function leased_id(held)
  return string.sub(held, 41, 56)
end

local function holder_of(held)
  return string.sub(held, 57)
end

-- Whether the caller still holds the lane, and whether its record is still the head.
local function standing(lane, token, id)
  local held = redis.call('HGET', lease, lane)
  if not held or token_of(held) ~= token then
    return 'SUPERSEDED'
  end
  local head = redis.call('LINDEX', lane_key(lane), 0)
  local worker = holder_of(held)
  if not head or id_of(head) ~= id then
    return 'ALREADY', head, worker
  end
  return 'HEAD', head, worker
end

-- Lease lanes of one schedule: {lane, token, head record, worker, lease_ms}, ... The padding makes each lease longer than 64
-- bytes. Redis would keep a few shorter ones in one packed string and search all of them for each look, a quarter of its
-- time.
local function hold(scheduled, held)
  if #held == 0 then
    return
  end
  local lanes, leases, due = {}, {}, {}
  for i, one in ipairs(held) do
    local lane, token, record, worker, lease_ms = unpack(one)
    lanes[i] = lane
    leases[2 * i - 1], leases[2 * i] = lane, token .. id_of(record) .. string.format('%-9s', worker)
    due[2 * i - 1], due[2 * i] = now + lease_ms, lane
  end
  redis.call('HDEL', lease, unpack(lanes)) -- a first write that a full Redis allows
  redis.call('HSET', lease, unpack(leases))
  redis.call('ZADD', scheduled, unpack(due))
end

-- This event may have reached the tracker without our knowing: should it arrive twice, it is one of these. After a step
-- back of the clock the new mark still stands behind the older ones, so that the trimming does not take it.
local function mark_doubtful(id)
  local latest = tonumber(redis.call('ZRANGE', doubtful, -1, -1, 'WITHSCORES')[2] or 0)
  redis.call('HINCRBY', ledger, 'duplicates_possible', 1)
  redis.call('ZADD', doubtful, latest > now and latest + 1 or now, id)
  redis.call('ZREMRANGEBYRANK', doubtful, 0, -10001)
end

-- Give a lane back, after what is known of its head has been written.
local function make_due(lane, delay_ms)
  redis.call('HDEL', lease, lane)
  schedule(lane, now + delay_ms, redis.call('HGET', trying, lane))
  if delay_ms == 0 then
    call_pump()
  end
end
