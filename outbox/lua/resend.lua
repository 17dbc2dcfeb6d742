-- resend: a dead letter is discarded, and the event that takes its place is accepted, under an id of its own.
-- KEYS: ledger books apps wake wake_delivery lingering dead dead_apps dead_groups
-- ARGV: prefix letter_id record_sha1 lane app draft
-- Returns: {'RESENT', seq} | {'CHANGED'} | {'ALREADY'}
-- Invariant: dead falls as discarded rises, and accepted and waiting rise together. A letter that is gone, or whose
--   record is not the one that was exported (record_sha1), sends nothing: so a second run of a file is harmless.
-- Shared: clock pump record books tail letter
local ledger, books, apps, wake, wake_delivery, lingering, dead, dead_apps, dead_groups = unpack(KEYS)
local prefix, letter_id, record_sha1, lane, app, draft = unpack(ARGV)
-- body
local data = redis.call('HGET', dead, letter_id)
if not data then
  return {'ALREADY'}
end
local letter = read_letter(data)
if redis.sha1hex(letter.record) ~= record_sha1 then
  return {'CHANGED'}
end
take_letter(letter_id, letter)
book(letter.app, letter.record, 'dead', 'discarded')
local seq = redis.call('HINCRBY', ledger, 'accepted', 1)
local record = stamped(draft, app, seq, now)
book(app, record, 'accepted', 'waiting')
join(lane, app, record)
beat('accepted', 1)
return {'RESENT', seq}
