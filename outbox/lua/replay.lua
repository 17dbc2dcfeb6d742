-- replay: a dead letter goes back to the tail of its lane, as it was accepted.
-- KEYS: books apps wake wake_delivery lingering replaying dead dead_apps dead_groups
-- ARGV: prefix id burial run limit
-- Returns: {'REPLAYED' | 'GONE' | 'INVALID' | 'PAUSED' | 'FULL'}
-- Invariant: fewer than limit events of the run wait in lanes before this one joins them, and no copy of its event that a
--   replay has sent (FULL, too). Nothing goes to an app that is paused. An event that was buried as invalid stays: the tracker
--   would refuse it again. So do bytes that are too short for a record: they have no id, and no worker could read them.
-- burial is the letter's place in the order of burial: one that has another place died after the run began, so the letter
-- that was meant is gone.
-- Shared: clock pump record books tail letter replays
local books, apps, wake, wake_delivery, lingering, replaying, dead, dead_apps, dead_groups = unpack(KEYS)
local prefix, id, burial, run, limit = unpack(ARGV)
-- body
local HEADER_BYTES = 45 -- of a record

local data = redis.call('HGET', dead, id)
local letter = data and read_letter(data)
if not letter or letter.burial ~= tonumber(burial) then
  return {'GONE'}
end
if string.match(letter.group, '[^\t]*$') == 'invalid' or #letter.record < HEADER_BYTES then
  return {'INVALID'}
end
local app = string.match(letter.lane, '^[^/]*')
if tonumber(redis.call('ZSCORE', apps, app) or 0) > now then
  return {'PAUSED'}
end
local event = id_of(letter.record) -- the letter's own id is another one when it is of a second copy of the event
if is_replaying(event) or outstanding(run) >= tonumber(limit) then
  return {'FULL'}
end
take_letter(id, letter)
book(app, letter.record, 'dead', 'waiting')
begin_replayed(run, event, letter.lane)
redis.call('HSET', replay_key(run), 'sent_at', now)
join(letter.lane, app, letter.record)
beat('replayed', 1)
return {'REPLAYED'}
