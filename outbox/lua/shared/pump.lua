-- pump: how a worker's pump is called.
local function call_pump()
  if redis.call('LLEN', wake) == 0 then
    redis.call('LPUSH', wake, '1')
  end
end
