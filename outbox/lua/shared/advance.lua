-- advance: what happens to a lane when its head has gone. Needs: clock, lane.

-- A record that a replay had brought back has found its end.
local function end_replay(lane, id, how)
  local run = redis.call('HGET', replaying, lane)
  if run and string.sub(run, 1, 16) == id then
    redis.call('HDEL', replaying, lane)
    redis.call('HINCRBY', prefix .. 'replay:' .. string.sub(run, 17), how, 1)
  end
end

-- The next record when the caller goes on with the lane (its lease renewed under the same fence), else ''. An app that
-- is paused, or a record of a newer version, is left to a later claim.
local function advance(lane, fence, worker, lease_ms, version)
  local following = redis.call('LINDEX', lane_key(lane), 0)
  if not following then
    redis.call('ZREM', due_key(lane), lane)
    redis.call('HDEL', lease, lane)
    return ''
  end
  local open_from = tonumber(redis.call('ZSCORE', apps, app_of(lane)) or 0)
  if tonumber(lease_ms) > 0 and open_from <= now and string.byte(following) <= tonumber(version) then
    hold(lane, fence, following, worker, lease_ms)
    return following
  end
  make_due(lane, 0)
  return ''
end
