-- take_turn: a worker goes on with a replay run; only the newest message of a run may, an older one has been given up for lost.
-- KEYS: replays
-- ARGV: prefix run turn patience_ms
-- Returns: {'TAKEN', the turn that the next message has to name} | {'PASSED'}
-- Invariant: a run that workers are to go on with stands in replays; when nobody has taken a turn within patience_ms, a
--   pump sends a new message. turn 0 is anybody's.
-- Shared: clock replays
local replays = unpack(KEYS)
local prefix, run, turn, patience_ms = unpack(ARGV)
-- body
local key = replay_key(run)
if turn ~= '0' and redis.call('HGET', key, 'turn') ~= turn then
  return {'PASSED'}
end
redis.call('ZREM', replays, run) -- a first write that a full Redis allows
redis.call('ZADD', replays, now + patience_ms, run)
return {'TAKEN', redis.call('HINCRBY', key, 'turn', 1)}
