-- claim_quarantined: lease one lane from quarantine to a process that has nothing else in flight.
-- KEYS: ledger apps lease trying failing doubtful quarantine_apps quarantine_turn newer
-- ARGV: prefix worker token lease_ms version idle
-- Returns: {'CLAIMED', now ms, lane, head record, trying, 'PROBE' or ''} | {'RESERVED' | 'NONE' | 'BUSY'}
-- Invariant: one process at a time has the turn, and it is leased one lane when it has nothing in flight (idle '1'). The
--   lane stays in quarantine: if this worker dies too, the next claim counts it.
-- RESERVED: the process has the turn; it begins nothing and asks again when it is idle. NONE: nothing may be sent from
-- quarantine, and the turn is free. BUSY: another process has the turn. A process that dies loses it after lease_ms.
-- The circuit breaker's rules hold as in claim. A quarantined event is a probe only if its app has nothing else that is due.
-- Shared: clock pump record lane barrier breaker abandoned quarantine newer
local ledger, apps, lease, trying, failing, doubtful, quarantine_apps, quarantine_turn, newer = unpack(KEYS)
local prefix, worker, token, lease_ms, version, idle = unpack(ARGV)
-- body
local APPS_AT_ONCE = 64  -- bounds a claim; the rotation reaches the others next time
local LANES_AT_ONCE = 16 -- of an app: some may wait for a guest or for a newer worker

local process = process_of(token)
local holder = redis.call('GET', quarantine_turn)
if holder and holder ~= process then
  return {'BUSY'}
end

-- The lanes of the app's quarantine that may be claimed, as far as the circuit breaker lets it; and as claim_limit.
local function candidates(app)
  local probe, tokens = claim_limit(app)
  if probe then
    if redis.call('ZRANGEBYSCORE', prefix .. 'due:' .. app, '-inf', now, 'LIMIT', 0, 1)[1] then
      return {}
    end
  elseif tokens and tokens <= 0 then
    return {}
  end
  return quarantined(app, LANES_AT_ONCE), probe, tokens
end

-- The lane's head and what is known of it, when it may be sent now. A lease that is found has ended; its crash is counted.
local function sendable(lane)
  local quarantine, record = quarantine_key(lane), redis.call('LINDEX', lane_key(lane), 0)
  if not record then
    redis.call('ZREM', quarantine, lane)
    redis.call('HDEL', lease, lane)
    return nil
  end
  local tried = known(lane, record, redis.call('HGET', trying, lane), redis.call('HGET', lease, lane))
  redis.call('HDEL', lease, lane)
  if waits_for_newer(lane, record, version, quarantine) then
    return nil
  end
  if waits_for_guest(lane, record, quarantine) then
    return nil
  end
  return record, tried
end

redis.call('ZREM', quarantine_apps, '') -- a first write that a full Redis allows
local some = redis.call('ZRANGE', quarantine_apps, 0, APPS_AT_ONCE - 1)
for _, app in ipairs(some) do
  local lanes, probe, tokens = candidates(app)
  for _, lane in ipairs(lanes) do
    local record, tried = sendable(lane)
    if record then
      redis.call('SET', quarantine_turn, process, 'PX', lease_ms)
    end
    if record and idle ~= '1' then
      return {'RESERVED'}
    end
    if record then
      hold(quarantine_key(lane), {{lane, token, record, worker, lease_ms}})
      redis.call('ZADD', quarantine_apps, now, app)
      if probe then
        begin_probe(app, lane, lease_ms)
      elseif tokens then
        take_tokens(app, 1)
      end
      return {'CLAIMED', now, lane, record, tried, probe and 'PROBE' or ''}
    end
  end
  if redis.call('ZCARD', prefix .. 'quarantine:' .. app) == 0 then
    redis.call('ZREM', quarantine_apps, app)
  elseif #some == APPS_AT_ONCE then
    redis.call('ZADD', quarantine_apps, now, app)
  end
end
redis.call('DEL', quarantine_turn)
return {'NONE'}
