-- discard: an operator gives a dead letter up for good.
-- KEYS: ledger dead dead_apps dead_groups
-- ARGV: prefix id
-- Returns: {'DISCARDED' | 'GONE'}
-- Invariant: dead falls as discarded rises.
-- Shared: clock record letter
local ledger, dead, dead_apps, dead_groups = unpack(KEYS)
local prefix, id = unpack(ARGV)
-- body
local data = redis.call('HGET', dead, id)
if not data then
  return {'GONE'}
end
take_letter(id, read_letter(data))
redis.call('HINCRBY', ledger, 'discarded', 1)
return {'DISCARDED'}
