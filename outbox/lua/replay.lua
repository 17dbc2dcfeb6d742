-- replay: a dead letter goes back to the tail of its lane, as it was accepted.
-- KEYS: ledger apps wake replaying dead dead_index dead_groups
-- ARGV: prefix id run
-- Returns: {'REPLAYED' | 'BUSY' | 'GONE' | 'INVALID'}
-- Invariant: at most one replayed record of a lane is under way, so a visitor's letters keep their order. An event
--   that was buried as invalid stays: the tracker would refuse it again.
-- Shared: clock pump record tail letter replays
local ledger, apps, wake, replaying, dead, dead_index, dead_groups = unpack(KEYS)
local prefix, id, run = unpack(ARGV)
-- body
local letter = redis.call('HGET', dead, id)
if not letter then
  return {'GONE'}
end
local lane, group, record = read_letter(letter)
if string.match(group, '[^\t]*$') == 'invalid' then
  return {'INVALID'}
end
if redis.call('HEXISTS', replaying, lane) == 1 then
  return {'BUSY'}
end
take_letter(id, group)
redis.call('HINCRBY', ledger, 'waiting', 1)
redis.call('HINCRBY', ledger, 'replayed', 1)
redis.call('HINCRBY', replay_key(run), 'replayed', 1)
redis.call('HSET', replaying, lane, id .. run)
join(lane, string.match(lane, '^[^/]*'), record)
beat('replayed', 1)
return {'REPLAYED'}
