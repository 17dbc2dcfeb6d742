-- fail: an attempt has failed. In one step the circuit breaker decides whether it counts, and the outcome is written down.
-- KEYS: ledger books apps lease trying failing doubtful wake wake_delivery lingering replaying dead dead_apps dead_groups
-- ARGV: prefix lane token id assumed delay_ms group meta attempt duplicate kind sent reason fault retry_after_ms jitter unanswered_ms limits lease_ms version
-- Returns: {'RETRIED' | 'BURIED' | 'NOT_COUNTED' | 'ELSEWHERE' | 'ALREADY' | 'SUPERSEDED', until when the app is paused in ms
--   or 0, 1 if this attempt began the pause else 0, next record or ''}
-- Invariant: only the holder of the token changes anything, the breaker included. An attempt counts unless the breaker is
--   open; a pause that rejections began counts again after rejected_ms. The head stays the head, or is a dead letter.
-- assumed: the attempts that the worker found. group and meta: the burial that is due if the attempt counts and the stored
--   attempts are as many, '' when none is due. In all other cases a counted attempt is retried after delay_ms.
-- attempt: what is known of the head after this attempt (outbox/trying.py); the script sets the number of attempts.
-- duplicate: '1' when the tracker may have taken the event. It is marked, whether the attempt counts or not.
-- kind: unreachable | closed (401, 403, 404, 3xx) | server (other 5xx) | rejected (anything else)
-- sent: 1; 0 when no request was sent (refused, no such host, TLS failed), which is never the fault of an event.
-- reason, fault: the tracker's answer in words, with nothing personal in it, and what is wrong (outbox/fault.py).
-- unanswered_ms: for how long a process that gets no connection has had no answer; 0 or less in all other cases.
-- limits: the breaker's numbers, 8 bytes each (outbox/breaker.py): unreachable lanes first_ms max_ms calm_ms rejected_ms
-- ELSEWHERE: another process delivers, so the tracker limits its connections: no attempt, the lane is given back as it was.
-- NOT_COUNTED: the lane is given back with its attempts as they are stored.
-- Shared: clock pump record lane barrier advance books tally letter replays left burial breaker trip
local ledger, books, apps, lease, trying, failing, doubtful, wake, wake_delivery, lingering, replaying, dead, dead_apps, dead_groups = unpack(KEYS)
local prefix, lane, token, id, assumed, delay_ms, group, meta, attempt, duplicate, kind, sent, reason, fault, retry_after_ms, jitter, unanswered_ms, limits, lease_ms, version = unpack(ARGV)
-- body
local function stored_attempts()
  local known = redis.call('HGET', trying, lane)
  return known and string.sub(known, 1, 16) == id and struct.unpack('>I2', known, 17) or 0
end

local function note_attempt(head, attempts)
  attempts = struct.pack('>I2', math.min(attempts, 65535))
  redis.call('HSET', trying, lane, string.sub(attempt, 1, 16) .. attempts .. string.sub(attempt, 19))
  redis.call('ZADD', failing, 'NX', accepted_at(head), lane)
end

local status, head, worker = standing(lane, token, id)
if status == 'SUPERSEDED' then
  return {status, 0, 0, ''}
end
if status == 'ALREADY' and group == '' then
  return {status, 0, 0, ''}
end
if status == 'ALREADY' then -- its burial is repeated
  return {status, 0, 0, go_on(lane, head, token, worker, lease_ms, version)}
end

local breaker = read_breaker(app_of(lane))
redis.call('HDEL', lease, lane) -- a first write that a full Redis allows
if duplicate == '1' then
  mark_doubtful(id)
end
if others_deliver(breaker) then
  give_back_token(lane)
  make_due(lane, 0)
  return {'ELSEWHERE', 0, 0, ''}
end
local counts, until_ms, began = judge(breaker)
local attempts = stored_attempts()
if not counts then
  note_attempt(head, attempts)
  make_due(lane, 0)
  return {'NOT_COUNTED', until_ms, began, ''}
end
if group ~= '' and attempts == tonumber(assumed) then
  bury_head(lane, id, head, group, meta)
  local following = redis.call('LINDEX', lane_key(lane), 0)
  return {'BURIED', until_ms, 0, go_on(lane, following, token, worker, lease_ms, version)}
end
note_attempt(head, attempts + 1)
make_due(lane, tonumber(delay_ms))
beat('failed', 1)
return {'RETRIED', until_ms, 0, ''}
