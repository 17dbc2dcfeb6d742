-- report: tell the outage guard of a failed attempt; it answers whether the attempt counts.
-- KEYS: apps lease trying
-- ARGV: prefix app lane kind sent reason fault retry_after_ms first_ms max_ms jitter unreachable_limit lanes_limit calm_ms rejected_ms unanswered_ms
-- Returns: {'COUNTED' | 'PAUSED' | 'ELSEWHERE', until ms or 0, 1 if this report began the pause else 0}
-- Invariant: while an app is paused no attempt is counted, but for a pause that rejections began, after rejected_ms.
--   What its suspects had counted since the last 200 is taken back.
-- reason, fault: the tracker's last answer in words, with nothing personal in it, and what is wrong (outbox/fault.py).
-- sent: 1; 0 when no request was sent (refused, no such host, TLS failed), which is never the fault of an event.
-- unanswered_ms: for how long a process that gets no connection has recorded no answer; 0 or less in all other cases.
-- ELSEWHERE: another process delivers, so the tracker only limits its connections. Nothing is counted or changed.
-- kind: unreachable | closed (401, 403, 404, 3xx) | server (other 5xx) | rejected (anything else)
-- Shared: clock
local apps, lease, trying = unpack(KEYS)
local prefix, app, lane, kind, sent, reason, fault, retry_after_ms, first_ms, max_ms, jitter, unreachable_limit, lanes_limit, calm_ms, rejected_ms, unanswered_ms = unpack(ARGV)
-- body
local CLOSED_LANES = 3      -- so soon after a 200, one visitor's 403 is that visitor's trouble
local CALM_TIMES = 5        -- nor do a few poisoned ones say anything; so many more without a 200 between do

local outage = prefix .. 'outage:' .. app
local suspects = outage .. ':lanes'
local state = redis.call('HMGET', outage, 'since', 'kind', 'pauses', 'probe', 'until', 'last_ok', 'operator', 'tokens',
  'pause_ms')
local since, paused_kind, pauses, probe = tonumber(state[1]), state[2], tonumber(state[3] or 0), state[4]
local until_ms, last_ok, operator = tonumber(state[5] or 0), tonumber(state[6]), state[7]
local tokens = state[8]
until_ms = math.min(until_ms, now + tonumber(state[9] or 0)) -- further ahead it is only when the clock was set back
retry_after_ms = tonumber(retry_after_ms)
local calm = last_ok and math.abs(now - last_ok) < tonumber(calm_ms)
if calm and not since and now >= last_ok and now - last_ok < tonumber(unanswered_ms) then
  return {'ELSEWHERE', 0, 0}
end
redis.call('HDEL', outage, 'tokens')

local function pause(wait_ms)
  until_ms = math.max(until_ms, now + math.max(math.floor(wait_ms), retry_after_ms))
  redis.call('HDEL', outage, 'probe')
  redis.call(
    'HSET', outage, 'pauses', pauses, 'until', until_ms, 'pause_ms', until_ms - now, 'reason', reason, 'fault', fault
  )
  if not operator then
    redis.call('ZADD', apps, until_ms, app)
  end
end

local function clear_suspects()
  local counted = redis.call('HGETALL', suspects)
  redis.call('DEL', suspects)
  for i = 1, #counted, 2 do
    local tried = redis.call('HGET', trying, counted[i])
    if tried then
      local id, attempts = struct.unpack('>c16I2', tried)
      attempts = math.max(0, attempts - tonumber(counted[i + 1]))
      redis.call('HSET', trying, counted[i], id .. struct.pack('>I2', attempts) .. string.sub(tried, 19))
      if redis.call('HEXISTS', lease, counted[i]) == 0 then
        redis.call('ZADD', prefix .. 'due:' .. app, 'XX', now, counted[i])
      end
    end
  end
end

if since then
  if probe == lane then
    pauses = pauses + 1
    pause(math.min(first_ms * 2 ^ math.min(pauses, 30), max_ms) * jitter)
  elseif retry_after_ms > 0 and now + retry_after_ms > until_ms then
    -- a POST from before the pause: it may lengthen the pause, but the probe under way stays the only one
    until_ms = now + retry_after_ms
    redis.call('HSET', outage, 'until', until_ms, 'pause_ms', retry_after_ms, 'reason', reason, 'fault', fault)
    if not operator then
      redis.call('ZADD', apps, 'GT', until_ms, app)
    end
  end
  local counts = paused_kind == 'rejected' and now - since > tonumber(rejected_ms)
  return {counts and 'COUNTED' or 'PAUSED', until_ms, 0}
end

local unreachable = 0
if kind == 'unreachable' then
  unreachable = redis.call('HINCRBY', outage, 'unreachable', 1)
else
  redis.call('HSET', outage, 'unreachable', 0)
end
local lanes = redis.call('HLEN', suspects)
if redis.call('HEXISTS', suspects, lane) == 0 then
  lanes = lanes + 1
end
local tripped = (retry_after_ms > 0 and (not calm or lanes >= 2))
  or (unreachable >= tonumber(unreachable_limit) and (lanes >= 2 or sent == '0'))
  or (kind == 'closed' and (not calm or lanes >= CLOSED_LANES))
  or lanes >= tonumber(lanes_limit) * (calm and CALM_TIMES or 1)
if not tripped then
  redis.call('HINCRBY', suspects, lane, 1)
  if tokens then -- the small start goes on: this lane's token is free for another
    redis.call('HSET', outage, 'tokens', tokens + 1)
  end
  return {'COUNTED', 0, 0}
end
clear_suspects()
redis.call('HSET', outage, 'since', now, 'kind', kind)
pause(first_ms * jitter)
return {'PAUSED', until_ms, 1}
