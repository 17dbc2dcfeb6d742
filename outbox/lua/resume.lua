-- resume: an operator lets an app go on at once, whatever held it back.
-- KEYS: apps wake
-- ARGV: prefix app
-- Returns: {'RESUMED'}
-- Invariant: the guard starts afresh, with the small start that follows any outage.
-- Shared: clock pump
local apps, wake = unpack(KEYS)
local prefix, app = unpack(ARGV)
-- body
local outage = prefix .. 'outage:' .. app
redis.call(
  'HDEL', outage, 'operator', 'since', 'reason', 'fault', 'kind', 'pauses', 'until', 'pause_ms', 'probe', 'unreachable'
)
redis.call('DEL', outage .. ':lanes')
redis.call('HSET', outage, 'tokens', 2, 'resumed', now)
redis.call('ZADD', apps, now, app)
call_pump()
return {'RESUMED'}
