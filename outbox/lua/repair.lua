-- repair: an operator has corrected the event of a dead letter; it goes back to the tail of a lane, as in a replay.
-- KEYS: books apps wake wake_delivery lingering replaying dead dead_apps dead_groups
-- ARGV: prefix id record_sha1 lane app draft run filter kept_ms
-- Returns: {'REPAIRED' | 'CHANGED' | 'GONE' | 'BUSY'}
-- Invariant: the record keeps its seq, its time of acceptance and its id; the rest is new. Nothing is done unless the
--   stored record is the one that the operator has seen (record_sha1). lane is the corrected event's. The run is new.
-- BUSY: a copy of the event, which a replay has sent, still waits in its lane. draft has the event's id.
-- Shared: clock pump record books tail letter replays
local books, apps, wake, wake_delivery, lingering, replaying, dead, dead_apps, dead_groups = unpack(KEYS)
local prefix, id, record_sha1, lane, app, draft, run, filter, kept_ms = unpack(ARGV)
-- body
local data = redis.call('HGET', dead, id)
if not data then
  return {'GONE'}
end
local letter = read_letter(data)
local record = letter.record
if redis.sha1hex(record) ~= record_sha1 then
  return {'CHANGED'}
end
local event = id_of(draft)
if is_replaying(event) then
  return {'BUSY'}
end
local repaired = stamped(draft, app, seq_of(record), accepted_at(record))
take_letter(id, letter)
book(letter.app, record, 'dead', 'corrected')
book(app, repaired, 'accepted', 'waiting')
local replay = replay_key(run)
redis.call('HSET', replay, 'filter', filter, 'total', 1)
redis.call('PEXPIRE', replay, kept_ms)
begin_replayed(run, event, lane)
join(lane, app, repaired)
beat('replayed', 1)
return {'REPAIRED'}
