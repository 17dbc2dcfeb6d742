-- discard: an operator gives a dead letter up for good.
-- KEYS: ledger dead dead_index dead_groups
-- ARGV: prefix id
-- Returns: {'DISCARDED' | 'GONE'}
-- Invariant: dead falls as discarded rises.
-- Shared: clock record letter
local ledger, dead, dead_index, dead_groups = unpack(KEYS)
local prefix, id = unpack(ARGV)
-- body
local letter = redis.call('HGET', dead, id)
if not letter then
  return {'GONE'}
end
local _, group = read_letter(letter)
take_letter(id, group)
redis.call('HINCRBY', ledger, 'discarded', 1)
return {'DISCARDED'}
