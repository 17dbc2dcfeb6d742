-- settle: the tracker has answered 200 to the heads of leased lanes of an app. They are gone; the lanes go on.
-- KEYS: ledger books apps lease trying failing doubtful wake wake_delivery lingering replaying
-- ARGV: prefix app version held
-- Returns: {1 if this closed the app's circuit breaker else 0, the lane's next record or '', ...}, a record for each of held
-- Invariant: only the holder of the token changes a lane; a 200 closes the circuit breaker. A head that
--   has gone already is not counted again. One that still stands there, with another lease or none, will be sent again: it is
--   marked doubtful, if it is not yet (Redis has failed over, or has been started with an old file).
-- held is a row of leases: length of the lane (2 bytes), lane, token (40), id of the head (16), ms to hold the lane on (8), and
-- ms that the POST took (4; all bits set when the caller does not know).
-- 0 ms to hold on says that the caller takes no further record of this lane. What many write in the same place is written once for
-- all of them.
-- Shared: clock pump record lane barrier advance breaker books tally replays left latency
local ledger, books, apps, lease, trying, failing, doubtful, wake, wake_delivery, lingering, replaying = unpack(KEYS)
local prefix, app, version, held = unpack(ARGV)
-- body
local lanes, tokens, ids, leases_ms, posts_ms = {}, {}, {}, {}, {}
local at, count = 1, 0
while at <= #held do
  count = count + 1
  lanes[count], tokens[count], ids[count], leases_ms[count], posts_ms[count], at = struct.unpack('>I2c0c40c16I8I4', held, at)
end

local going, delivered, records, posts, again = {}, {}, {}, {}, {}
for i, holder in ipairs(redis.call('HMGET', lease, unpack(lanes))) do
  local lane = lanes[i]
  if holder and token_of(holder) == tokens[i] then
    local key = lane_key(lane)
    local head = leased_id(holder) == ids[i] and redis.call('LPOP', key)
    if head and id_of(head) == ids[i] then
      delivered[#delivered + 1] = lane
      records[#delivered], posts[#delivered] = head, posts_ms[i]
    elseif head then
      redis.call('LPUSH', key, head) -- not what the lease is for: somebody has changed the list by hand
    end
    going[i] = {lane, redis.call('LINDEX', key, 0), tokens[i], holder_of(holder), leases_ms[i]}
  elseif id_of(redis.call('LINDEX', lane_key(lane), 0) or '') == ids[i] then
    again[#again + 1] = ids[i]
  end
end

local ended = 0
if #delivered > 0 then
  local replayed = records_left(app, delivered, records, 'delivered')
  note_latency(app, records, replayed, posts)
  beat('delivered', #delivered)
  ended = note_200s(app, #delivered)
end
for _, id in ipairs(again) do
  if not redis.call('ZSCORE', doubtful, id) then
    redis.call('HDEL', lease, '') -- a first write that a full Redis allows
    mark_doubtful(id)
  end
end
return {ended, unpack(advance(app, count, going, version))}
