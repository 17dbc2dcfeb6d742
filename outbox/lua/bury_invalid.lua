-- bury_invalid: an event that breaks the tracker's rules is kept as a dead letter, for a person to look at.
-- KEYS: ledger books dead dead_apps dead_groups
-- ARGV: prefix app lane owner draft group meta slot file
-- Returns: {'BURIED', seq} | {'ALREADY'} | {'CLOSED'}
--   | {'ERASED'}: it comes from a spool and its owner was erased since; accepted and discarded have risen
-- Invariant: accepted and dead rise together. lane is '' when the event names no usable visitor; owner says then
--   whose event it is as far as its payload tells, '' when it does not.
-- Shared: clock record books letter entrance tombstones
local ledger, books, dead, dead_apps, dead_groups = unpack(KEYS)
local prefix, app, lane, owner, draft, group, meta, slot, file = unpack(ARGV)
-- body
local id = id_of(draft)
local refusal = turned_away(id, slot, file)
if refusal then
  return {refusal}
end
if file ~= '' and owner ~= '' and discard_erased(app, owner, draft, slot, file) then
  return {'ERASED'}
end
note_entrance(id, slot, file)
local seq = redis.call('HINCRBY', ledger, 'accepted', 1)
beat('accepted', 1)
local record = stamped(draft, '', seq, now)
book(app, record, 'accepted', 'dead')
put_letter(id, app, lane, group, meta, record)
return {'BURIED', seq}
