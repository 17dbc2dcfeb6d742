-- close_slot: a spooled event is given up; a late packet of its call must not bring it in.
-- KEYS: ledger
-- ARGV: prefix id slot file
-- Returns: {'DROPPED'} | {'ENTERED'}
-- Invariant: DROPPED says that the event never came in and cannot come in by its slot. ENTERED says that it was accepted
--   before, by its call or from the spool, and is counted there (shared/entrance.lua). The spool's list stays as it is:
--   many ids of given-up events would push out those that a killed flush still needs.
-- Shared: entrance
local ledger = unpack(KEYS)
local prefix, id, slot, file = unpack(ARGV)
-- body
if redis.call('LPOS', prefix .. 'spool:' .. file, id) then
  return {'ENTERED'}
end
if slot ~= '' and redis.call('GET', prefix .. 'slot:' .. slot) == id then
  return {'ENTERED'}
end
redis.call('HDEL', ledger, '') -- a first write that a full Redis allows
if slot ~= '' then
  redis.call('SET', prefix .. 'slot:' .. slot, 'closed', 'PX', SLOT_MS)
end
return {'DROPPED'}
