-- pause: an operator holds back an app; its events are kept and none is sent.
-- KEYS: apps
-- ARGV: prefix app
-- Returns: {'PAUSED'}
-- Invariant: only resume ends it; the circuit breaker goes on counting meanwhile.
-- Shared: clock
local apps = unpack(KEYS)
local prefix, app = unpack(ARGV)
-- body
local NEVER = 9007199254740991

redis.call('ZREM', apps, app)
redis.call('ZADD', apps, NEVER, app)
redis.call('HSETNX', prefix .. 'outage:' .. app, 'operator', now)
return {'PAUSED'}
