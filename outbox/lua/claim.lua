-- claim: lease due lanes to a worker that has room for them, 1000 at most, rotating over the apps that may be claimed.
-- KEYS: ledger apps lease trying failing doubtful hint
-- ARGV: prefix worker token room lease_ms linger_ms version alone
-- Returns: {now ms, '' | 'ALONE' | 'MAKE_ROOM', {lane, head record, trying or '', 'PROBE' if it is one}, ...}
-- Invariant: a lane is leased to one holder at a time. A lease that is found on a due lane was left by a worker that
--   never said how it ended: its head is marked doubtful before it can be sent again. A head whose worker died twice is
--   leased to nobody who has anything else under way, nor beside another.
-- linger_ms > 0 says that the caller, having room left, will look again by itself: until then no hint is needed.
-- alone '1' says that the caller has nothing under way. ALONE: the one lane's head is to be sent with nothing beside it.
-- MAKE_ROOM: such a head is next in line, and waits until the caller has nothing under way.
-- Shared: clock pump record lane barrier breaker abandoned
local ledger, apps, lease, trying, failing, doubtful, hint = unpack(KEYS)
local prefix, worker, token, room, lease_ms, linger_ms, version, alone = unpack(ARGV)
-- body
local MOST = 1000          -- lanes of a claim
local APPS_AT_ONCE = 64    -- bounds a claim; the rotation reaches the others next time
local PROBE_CHOICES = 16   -- how far from either end a probe looks for a head that was never tried
local ROUNDS = 4           -- a lane that waits for its guest makes room for another; the rest is for the next claim
local NEWER_MS = 5000      -- a record of a newer version waits this long for a newer worker
-- An event that kills its worker takes with it all that the process is sending, and once its leases are over they come
-- due together. From its second death on a head is sent alone: who is buried as a crasher has killed by itself.
local ALONE_FROM = 2
local HEAD = 2             -- what stands before the lanes in the reply

room = math.min(tonumber(room), MOST)
local claimed = {now, ''}

local function dies_often(tried)
  return #tried >= 20 and struct.unpack('>I2', tried, 19) >= ALONE_FROM
end

-- The lane's head and what is known of it, when it may be sent now.
local function take(lane, stored, left)
  local record = redis.call('LINDEX', lane_key(lane), 0)
  if not record then
    redis.call('ZREM', due_key(lane), lane)
    redis.call('HDEL', lease, lane)
    return nil
  end
  if version_of(record) > tonumber(version) then
    redis.call('ZADD', due_key(lane), now + NEWER_MS, lane)
    return nil
  end
  local tried = known(lane, record, stored, left)
  if waits_for_guest(lane, record) then
    redis.call('HDEL', lease, lane)
    return nil
  end
  if dies_often(tried) then
    if alone ~= '1' or #claimed > HEAD then
      redis.call('HDEL', lease, lane) -- its end is counted; it stays due where it is, so that its turn comes
      claimed[2] = 'MAKE_ROOM'
      return nil
    end
    claimed[2] = 'ALONE'
  end
  claimed[#claimed + 1] = {lane, record, tried}
  return record
end

-- How many of these lanes were taken, and the last that was looked at.
local function take_all(app, lanes)
  local stored, left = redis.call('HMGET', trying, unpack(lanes)), redis.call('HMGET', lease, unpack(lanes))
  local held, last = {}, nil
  for i, lane in ipairs(lanes) do
    if claimed[2] == '' then
      local record = take(lane, stored[i], left[i])
      if record then
        held[#held + 1] = {lane, token, record, worker, lease_ms}
      end
      last = lane
    end
  end
  hold(app, held)
  return #held, last
end

-- The longest due and the latest: behind many poisoned lanes a good one may just have come.
local function choose_probe(due, lanes)
  local latest = redis.call('ZREVRANGEBYSCORE', due, now, '-inf', 'LIMIT', 0, PROBE_CHOICES)
  for _, choices in ipairs({lanes, latest}) do
    for _, lane in ipairs(choices) do
      if redis.call('HEXISTS', trying, lane) == 0 then
        return {lane}
      end
    end
  end
  return {lanes[1]}
end

local open = redis.call('ZRANGEBYSCORE', apps, '-inf', now, 'LIMIT', 0, APPS_AT_ONCE)
for _, app in ipairs(open) do
  local left = room - (#claimed - HEAD)
  if left <= 0 or claimed[2] ~= '' then
    break
  end
  local due = prefix .. 'due:' .. app
  local paused, tokens = claim_limit(app)
  local most = paused and 1 or math.min(left, tokens or left)
  local taken, last = 0, nil
  for _ = 1, ROUNDS do
    local lanes = {}
    if most > taken then
      lanes = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, paused and PROBE_CHOICES or most - taken)
    end
    if #lanes == 0 then
      break
    end
    redis.call('DEL', hint)
    if paused then
      lanes = choose_probe(due, lanes)
    end
    local more
    more, last = take_all(app, lanes)
    taken = taken + more
    if more == #lanes or claimed[2] ~= '' then
      break
    end
  end
  if last or #open == APPS_AT_ONCE then -- nothing due, nobody behind: nothing to write
    redis.call('DEL', hint)
    if tokens and taken > 0 then
      take_tokens(app, taken)
    end
    if paused and taken > 0 then
      begin_probe(app, last, lease_ms)
      table.insert(claimed[#claimed], 'PROBE')
    elseif claimed[2] ~= 'MAKE_ROOM' then -- else it stays first in the rotation
      redis.call('ZADD', apps, now, app)
    end
  end
end
linger_ms = tonumber(linger_ms)
if linger_ms == 0 or #claimed - HEAD >= room or claimed[2] ~= '' then
  redis.call('DEL', hint)
elseif redis.call('PTTL', hint) < linger_ms / 2 then
  redis.call('DEL', hint)
  redis.call('SET', hint, '1', 'PX', linger_ms)
end
return claimed
