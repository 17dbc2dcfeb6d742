-- erase: discard the waiting events of one lane, 100 at most, from its tail; when none is left, all that names the lane.
-- KEYS: books apps lease trying failing newer doubtful replaying wake wake_delivery lingering
-- ARGV: prefix lane
-- Returns: {'ERASED' | 'MORE' | 'SENDING', id of the head that is being sent and its worker, or '', erased, ...}, where
--   each of erased is {record, 1 if it may have been sent else 0}
-- Invariant: waiting falls as discarded rises. A head that a worker is sending stays until its lease ends; the lane's other
--   events do not wait for that. A worker whose lease ran out is superseded, and its head counts as possibly sent.
-- MORE: call again. SENDING: only the head is left, and the worker is sending it. ERASED: no key names the lane.
-- Shared: clock pump record lane barrier advance breaker forget books tally replays left
local books, apps, lease, trying, failing, newer, doubtful, replaying, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, lane = unpack(ARGV)
-- body
local BATCH = 100 -- a record has up to 64 KB, so a reply has a few MB at most

local key, behind = lane_key(lane), prefix .. 'behind:' .. lane
local head = redis.call('LINDEX', key, 0)
local held = redis.call('HGET', lease, lane)
local sending = head and held and due_at(lane) > now

local count = math.min(BATCH, redis.call('LLEN', key) - (sending and 1 or 0))
local erased = count > 0 and redis.call('RPOP', key, count) or {}
local reply = {'MORE', ''}
for i, record in ipairs(erased) do
  local id = id_of(record)
  local left_behind = held and leased_id(held) == id
  local marked = redis.call('ZREM', doubtful, id) == 1
  reply[i + 2] = {record, (left_behind or marked) and 1 or 0}
end
if #erased > 0 then
  records_left(app_of(lane), {}, erased, 'discarded')
end
local left = redis.call('LLEN', key)
if left == 0 then
  forget_lane(lane, head)
  if redis.call('ZCARD', behind) == 0 then
    reply[1] = 'ERASED'
  end
elseif sending and left == 1 then
  reply[1], reply[2] = 'SENDING', leased_id(held) .. holder_of(held)
end
return reply
