-- bury_invalid: an event that breaks the tracker's rules is kept as a dead letter, for a person to look at.
-- KEYS: ledger dead dead_index dead_groups
-- ARGV: prefix lane id group meta payload slot file
-- Returns: {'BURIED', seq} | {'ALREADY'} | {'CLOSED'}
-- Invariant: accepted and dead rise together. lane is '' when the event names no usable visitor.
-- Shared: clock record letter entrance
local ledger, dead, dead_index, dead_groups = unpack(KEYS)
local prefix, lane, id, group, meta, payload, slot, file = unpack(ARGV)
-- body
local refusal = turned_away(id, slot, file)
if refusal then
  return {refusal}
end
note_entrance(id, slot, file)
local seq = redis.call('HINCRBY', ledger, 'accepted', 1)
beat('accepted', 1)
put_letter(id, lane, group, meta, new_record('', seq, id, '', payload)) -- a letter needs no guest
return {'BURIED', seq}
