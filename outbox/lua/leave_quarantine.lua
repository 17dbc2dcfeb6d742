-- leave_quarantine: a process gives its turn at the quarantine back, and a pump looks whether another process may take it.
-- KEYS: quarantine_turn wake wake_delivery lingering
-- ARGV: prefix process
-- Returns: {'LEFT'}
-- Invariant: only the process that has the turn ends it.
-- Shared: clock pump
local quarantine_turn, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, process = unpack(ARGV)
-- body
if redis.call('GET', quarantine_turn) == process then
  redis.call('DEL', quarantine_turn)
  call_pump()
end
return {'LEFT'}
