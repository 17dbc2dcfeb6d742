-- discard_lane: an operator gives the waiting events of one lane up for good, 200 at most, the oldest first.
-- KEYS: books apps lease trying failing newer replaying wake wake_delivery lingering
-- ARGV: prefix lane last_seq
-- Returns: {'MORE' | 'SENDING' | 'DISCARDED', name of the holder that sends the head or '', how many were discarded, 1 if the
--   first of them may have been sent else 0}
-- Invariant: waiting falls as discarded rises. Events that were accepted after last_seq stay. A head that a worker is
--   sending stays until its outcome is known; the events behind it do not wait for that.
-- MORE: call again. SENDING: only the head is left of what is meant. DISCARDED: nothing is left of it.
-- Shared: clock pump record lane barrier advance breaker forget books tally replays left
local books, apps, lease, trying, failing, newer, replaying, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, lane, last_seq = unpack(ARGV)
-- body
local BATCH = 200     -- a record has up to 64 KB, so a step reads 13 MB at most
local HOLD_MS = 1000  -- no worker takes the lane between two steps

last_seq = tonumber(last_seq)
local key = lane_key(lane)
local head, held = redis.call('LINDEX', key, 0), redis.call('HGET', lease, lane)
local sending = head and held and due_at(lane) > now
local skip = sending and 1 or 0
local records = redis.call('LRANGE', key, skip, skip + BATCH - 1)
local count = 0
while records[count + 1] and seq_of(records[count + 1]) <= last_seq do
  count = count + 1
end

local possibly_sent = 0
if count > 0 then
  redis.call('LPOP', key, skip + count)
  if sending then
    redis.call('LPUSH', key, head)
  elseif held and leased_id(held) == id_of(head) then
    possibly_sent = 1
  end
  local discarded = {}
  for i = 1, count do
    discarded[i] = records[i]
  end
  records_left(app_of(lane), {}, discarded, 'discarded')
end
local left = redis.call('LINDEX', key, 0)
if not left then
  forget_lane(lane, head)
elseif count > 0 and not sending then
  forget_head(lane, head)
  if string.sub(lane, #app_of(lane) + 2, #app_of(lane) + 2) == 'g' then
    let_pass(lane, left)
  end
  make_due(lane, count == BATCH and HOLD_MS or 0)
end
if count == BATCH then
  return {'MORE', '', count, possibly_sent}
end
if sending and seq_of(head) <= last_seq then
  return {'SENDING', holder_of(held), count, possibly_sent}
end
return {'DISCARDED', '', count, possibly_sent}
