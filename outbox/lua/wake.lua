-- wake: somebody who cannot take what is due calls a pump, whatever was hinted before.
-- KEYS: hint wake
-- ARGV: prefix
-- Returns: {'WOKEN'}
-- Invariant: wake has one element at most.
-- Shared: pump
local hint, wake = unpack(KEYS)
local prefix = unpack(ARGV)
-- body
redis.call('DEL', hint)
call_pump()
return {'WOKEN'}
