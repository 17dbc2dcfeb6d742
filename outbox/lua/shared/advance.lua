-- advance: what happens to a lane when its head has gone. Needs: clock, pump, lane, barrier.

-- A record that a replay had brought back has found its end.
local function end_replay(lane, id, how)
  local run = redis.call('HGET', replaying, lane)
  if run and string.sub(run, 1, 16) == id then
    redis.call('HDEL', replaying, lane)
    redis.call('HINCRBY', prefix .. 'replay:' .. string.sub(run, 17), how, 1)
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
    call_pump()
  end
end

-- The next record when the caller goes on with the lane (its lease renewed under the same fence), else ''. An app that
-- is paused, a record of a newer version, or one that waits for its guest is left to a later claim.
local function advance(lane, fence, worker, lease_ms, version)
  local following = redis.call('LINDEX', lane_key(lane), 0)
  if string.match(lane, '^[^/]*/(.)') == 'g' then
    let_pass(lane, following)
  end
  if not following then
    redis.call('ZREM', due_key(lane), lane)
    redis.call('HDEL', lease, lane)
    return ''
  end
  if waits_for_guest(lane, following) then
    redis.call('HDEL', lease, lane)
    return ''
  end
  local open_from = tonumber(redis.call('ZSCORE', apps, app_of(lane)) or 0)
  local readable = following ~= '' and version_of(following) <= tonumber(version) -- '' would say that there is none
  if tonumber(lease_ms) > 0 and open_from <= now and readable then
    hold(lane, fence, following, worker, lease_ms)
    return following
  end
  make_due(lane, 0)
  return ''
end
