-- discard: an operator gives a dead letter up for good.
-- KEYS: books dead dead_apps dead_groups
-- ARGV: prefix id
-- Returns: {'DISCARDED' | 'GONE'}
-- Invariant: dead falls as discarded rises.
-- Shared: clock record books letter
local books, dead, dead_apps, dead_groups = unpack(KEYS)
local prefix, id = unpack(ARGV)
-- body
local data = redis.call('HGET', dead, id)
if not data then
  return {'GONE'}
end
local letter = read_letter(data)
take_letter(id, letter)
book(letter.app, letter.record, 'dead', 'discarded')
return {'DISCARDED'}
