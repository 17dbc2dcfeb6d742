-- leave_replay: a process stops working on a replay run, and stores how far it came.
-- KEYS: replays
-- ARGV: prefix run cursors finished
-- Returns: {'LEFT'}
-- Invariant: all letters of an app up to its cursor are done with. A finished run (1) is no work for workers.
-- cursors: JSON, app -> seq and id of a letter (hex).
-- Shared: replays
local replays = unpack(KEYS)
local prefix, run, cursors, finished = unpack(ARGV)
-- body
local key = replay_key(run)
redis.call('HDEL', key, 'cursors') -- a first write that a full Redis allows
redis.call('HSET', key, 'cursors', cursors)
if finished == '1' then
  redis.call('ZREM', replays, run)
end
return {'LEFT'}
