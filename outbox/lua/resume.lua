-- resume: an operator lets an app go on at once, whatever held it back.
-- KEYS: apps wake wake_delivery lingering
-- ARGV: prefix app
-- Returns: {'RESUMED'}
-- Invariant: the circuit breaker is closed and has no suspects, and the app begins with a few lanes as after any outage.
-- Shared: clock pump record lane breaker
local apps, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, app = unpack(ARGV)
-- body
redis.call('HDEL', breaker_of(app), 'operator')
reset_breaker(app)
open_app(app)
return {'RESUMED'}
