-- close_slot: a spooled event is given up; a late packet of its call must not bring it in.
-- KEYS: ledger
-- ARGV: prefix id slot file
-- Returns: {'DROPPED'} | {'ENTERED'}
-- Invariant: DROPPED says that the event never came in and cannot come in by its slot. ENTERED says that it was accepted
--   before, by its call or from the spool, and is counted there.
-- Shared: entrance
local ledger = unpack(KEYS)
local prefix, id, slot, file = unpack(ARGV)
-- body
if has_entered(id, slot, file) then
  return {'ENTERED'}
end
redis.call('HDEL', ledger, '') -- a first write that a full Redis allows
if slot ~= '' then
  close_slot(slot)
end
return {'DROPPED'}
