-- claim: lease due lanes to a worker that has room for them, 1000 at most, rotating over the apps that may be claimed.
-- KEYS: ledger apps lease trying failing doubtful hint quarantine_apps lingering newer
-- ARGV: prefix worker token room lease_ms linger_ms version
-- Returns: {now ms, ms for which nothing comes due by itself, 1 if lanes are in quarantine else 0,
--   how many lanes were met whose head only a newer worker can read,
--   {lane, head record, trying or '', 'PROBE' if it is one}, ...}
-- Invariant: a lane is leased to one holder at a time. A lease that is found on a due lane was left by a worker that
--   never said how it ended: its head is marked doubtful before it can be sent again. A head that has crashed two workers
--   goes into quarantine, from which only claim_quarantined leases.
-- linger_ms > 0 says that the caller, if it has room left, lingers: it waits on wake:delivery for so long at most, and
-- until then no pump is called. The ms in the reply are at most as many, and -1 when the caller does not linger.
-- Shared: clock pump record lane barrier breaker abandoned newer
local ledger, apps, lease, trying, failing, doubtful, hint, quarantine_apps, lingering, newer = unpack(KEYS)
local prefix, worker, token, room, lease_ms, linger_ms, version = unpack(ARGV)
-- body
local MOST = 1000          -- lanes of a claim
local APPS_AT_ONCE = 64    -- bounds a claim; the rotation reaches the others next time
local PROBE_CHOICES = 16   -- how far from either end a probe looks for a head that was never tried
local ROUNDS = 4           -- a lane that is not leased makes room for another; the rest is for the next claim
local HEAD = 4             -- what stands before the lanes in the reply

room = math.min(tonumber(room), MOST)
local claimed = {now, -1, 0, 0}

-- The lane's head and what is known of it, when it may be sent now.
local function take(lane, stored, left)
  local record = redis.call('LINDEX', lane_key(lane), 0)
  if not record then
    redis.call('ZREM', due_key(lane), lane)
    redis.call('HDEL', lease, lane)
    return nil
  end
  local tried = known(lane, record, stored, left)
  if waits_for_newer(lane, record, version, due_key(lane)) then
    redis.call('HDEL', lease, lane)
    return nil
  end
  if crashes(tried) then
    redis.call('HDEL', lease, lane)
    schedule(lane, now, tried)
    redis.call('ZADD', quarantine_apps, 'NX', now, app_of(lane))
    return nil
  end
  if waits_for_guest(lane, record, due_key(lane)) then
    redis.call('HDEL', lease, lane)
    return nil
  end
  claimed[#claimed + 1] = {lane, record, tried}
  return record
end

-- How many of these lanes were leased.
local function take_all(due, lanes)
  local stored, left = redis.call('HMGET', trying, unpack(lanes)), redis.call('HMGET', lease, unpack(lanes))
  local held = {}
  for i, lane in ipairs(lanes) do
    local record = take(lane, stored[i], left[i])
    if record then
      held[#held + 1] = {lane, token, record, worker, lease_ms}
    end
  end
  hold(due, held)
  return #held
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

-- The caller waits on wake:delivery from now on; returns until when at most. One that stays is written down again when half
-- of its time is over.
local function linger(process)
  local ends = tonumber(redis.call('ZSCORE', lingering, process) or 0)
  if ends < now + linger_ms / 2 or ends > now + linger_ms then
    ends = now + linger_ms
    redis.call('ZREMRANGEBYSCORE', lingering, '-inf', now)
    redis.call('ZREMRANGEBYSCORE', lingering, '(' .. string.format('%.0f', now + MAX_LINGER_MS), '+inf')
    redis.call('ZADD', lingering, ends, process)
  end
  return ends
end

-- When a lane of these apps, or a further app, comes due by itself.
local function next_due(open)
  local found = tonumber(redis.call('ZRANGEBYSCORE', apps, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
    or math.huge
  for _, app in ipairs(open) do
    found = math.min(found, tonumber(redis.call('ZRANGE', prefix .. 'due:' .. app, 0, 0, 'WITHSCORES')[2]) or math.huge)
  end
  return found
end

local open = redis.call('ZRANGEBYSCORE', apps, '-inf', now, 'LIMIT', 0, APPS_AT_ONCE)
for _, app in ipairs(open) do
  local left = room - (#claimed - HEAD)
  if left <= 0 then
    break
  end
  local due = prefix .. 'due:' .. app
  local probe, tokens = claim_limit(app)
  local most = probe and 1 or math.min(left, tokens or left)
  local taken, looked = 0, false
  for _ = 1, ROUNDS do
    local lanes = {}
    if most > taken then
      lanes = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, probe and PROBE_CHOICES or most - taken)
    end
    if #lanes == 0 then
      break
    end
    looked = true
    redis.call('DEL', hint)
    if probe then
      lanes = choose_probe(due, lanes)
    end
    local more = take_all(due, lanes)
    taken = taken + more
    if more == #lanes then
      break
    end
  end
  if looked or #open == APPS_AT_ONCE then -- with nothing due and no further app there is nothing to write
    redis.call('DEL', hint)
    if tokens and taken > 0 then
      take_tokens(app, taken)
    end
    if probe and taken > 0 then
      begin_probe(app, claimed[#claimed][1], lease_ms)
      table.insert(claimed[#claimed], 'PROBE')
    else
      redis.call('ZADD', apps, now, app)
    end
  end
end
claimed[3] = redis.call('EXISTS', quarantine_apps)
claimed[4] = newer_met
linger_ms = tonumber(linger_ms)
if linger_ms == 0 or #claimed - HEAD >= room then
  redis.call('DEL', hint)
  redis.call('ZREM', lingering, process_of(token))
else
  claimed[2] = math.max(0, math.min(linger(process_of(token)), next_due(open)) - now)
end
return claimed
