-- wake: a process that can take no more lanes calls another delivery that lingers, or else a pump.
-- KEYS: hint wake wake_delivery lingering
-- ARGV: prefix process
-- Returns: {'WOKEN'}
-- Invariant: wake and wake:delivery have one element at most. From now on the caller does not linger, and a message that was
--   published before does not keep a pump from publishing another.
-- Shared: clock pump
local hint, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, process = unpack(ARGV)
-- body
redis.call('DEL', hint)
redis.call('ZREM', lingering, process)
call_pump()
return {'WOKEN'}
