-- tail: how a record joins its lane; one that was empty becomes due. Needs: clock, pump.
local function join(lane, app, record)
  if redis.call('RPUSH', prefix .. 'lane:' .. lane, record) == 1 then
    redis.call('ZADD', prefix .. 'due:' .. app, now, lane)
    redis.call('ZADD', apps, 'NX', now, app)
    call_pump()
  end
end
