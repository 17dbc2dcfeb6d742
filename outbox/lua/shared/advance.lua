-- advance: what happens to a lane when its head has gone. Needs: clock, pump, lane, barrier.

-- Heads of an app's lanes have gone, and what was known of their attempts goes too. The lanes leave quarantine.
local function forget_attempts(app, lanes)
  if redis.call('HDEL', trying, unpack(lanes)) > 0 then
    redis.call('ZREM', failing, unpack(lanes))
    redis.call('ZREM', prefix .. 'quarantine:' .. app, unpack(lanes))
  end
end

-- A guest's lane has a new head, or none: whose barrier that passes is due.
local function let_pass(guest, first)
  local AT_ONCE = 1000 -- the others are due at the next head, or at their recheck

  local behind = prefix .. 'behind:' .. guest
  local below = first and '(' .. string.format('%.0f', seq_of(first)) or '+inf'
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', behind, '-inf', below, 'LIMIT', 0, AT_ONCE)) do
    redis.call('ZREM', behind, lane)
    redis.call('ZADD', due_key(lane), 'XX', now, lane)
    redis.call('ZADD', quarantine_key(lane), 'XX', now, lane)
    call_pump()
  end
end

-- For each of count places in going, where a lease of the app's lanes stands or nothing: {lane, its next record or nil,
-- token, worker, ms to hold it on}. The record when the caller goes on with the lane (its lease renewed under the same
-- token), else ''. An app that is paused, a record of a newer version, or one that waits for its guest is left to a later
-- claim.
local function advance(app, count, going, version)
  local open = tonumber(redis.call('ZSCORE', apps, app) or 0) <= now
  local due = prefix .. 'due:' .. app
  local records, gone, held = {}, {}, {}
  for i = 1, count do
    records[i] = ''
    local lane, following, token, worker, lease_ms = unpack(going[i] or {})
    if lane and string.sub(lane, #app + 2, #app + 2) == 'g' then
      let_pass(lane, following)
    end
    if lane and not following then
      gone[#gone + 1] = lane
    elseif lane and waits_for_guest(lane, following, due) then
      redis.call('HDEL', lease, lane)
    elseif lane then
      local readable = following ~= '' and version_of(following) <= tonumber(version) -- '' would say: there is none
      if tonumber(lease_ms) > 0 and open and readable then
        held[#held + 1] = {lane, token, following, worker, lease_ms}
        records[i] = following
      else
        make_due(lane, 0)
      end
    end
  end
  if #gone > 0 then
    redis.call('ZREM', due, unpack(gone))
    redis.call('HDEL', lease, unpack(gone))
  end
  hold(due, held)
  return records
end

-- advance for one lane, whose head has gone: the next record when the caller goes on with it, else ''.
local function go_on(lane, following, token, worker, lease_ms, version)
  return advance(app_of(lane), 1, {{lane, following, token, worker, lease_ms}}, version)[1]
end
