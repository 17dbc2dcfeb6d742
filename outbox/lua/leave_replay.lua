-- leave_replay: a process stops working on a replay run, and stores how far it came.
-- KEYS: replays
-- ARGV: prefix run reached finished
-- Returns: {'LEFT'}
-- Invariant: all letters of the run before the seq reached are done with. A finished run (1) is no work for workers.
-- Shared: replays
local replays = unpack(KEYS)
local prefix, run, reached, finished = unpack(ARGV)
-- body
local key = replay_key(run)
redis.call('HDEL', key, 'reached') -- a first write that a full Redis allows
redis.call('HSET', key, 'reached', reached)
if finished == '1' then
  redis.call('ZREM', replays, run)
end
return {'LEFT'}
