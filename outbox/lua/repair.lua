-- repair: an operator has corrected the event of a dead letter; it goes back to the tail of a lane, as in a replay.
-- KEYS: ledger apps wake replaying dead dead_index dead_groups
-- ARGV: prefix id record_sha1 lane app draft run filter kept_ms
-- Returns: {'REPAIRED' | 'CHANGED' | 'BUSY' | 'GONE'}
-- Invariant: the record keeps its seq, its time of acceptance and its id; the rest is new. Nothing is done unless the
--   stored record is the one that the operator has seen (record_sha1). lane is the corrected event's. The run is new.
-- Shared: clock pump record tail letter replays
local ledger, apps, wake, replaying, dead, dead_index, dead_groups = unpack(KEYS)
local prefix, id, record_sha1, lane, app, draft, run, filter, kept_ms = unpack(ARGV)
-- body
local letter = redis.call('HGET', dead, id)
if not letter then
  return {'GONE'}
end
local _, group, record = read_letter(letter)
if redis.sha1hex(record) ~= record_sha1 then
  return {'CHANGED'}
end
if redis.call('HEXISTS', replaying, lane) == 1 then
  return {'BUSY'}
end
local repaired = stamped(draft, app, seq_of(record), accepted_at(record))
take_letter(id, group)
redis.call('HINCRBY', ledger, 'waiting', 1)
redis.call('HINCRBY', ledger, 'replayed', 1)
local replay = replay_key(run)
redis.call('HSET', replay, 'filter', filter, 'total', 1, 'replayed', 1)
redis.call('PEXPIRE', replay, kept_ms)
redis.call('HSET', replaying, lane, id .. run)
join(lane, app, repaired)
beat('replayed', 1)
return {'REPAIRED'}
