-- hand_over: workers go on with a replay run; a pump sends its message at once.
-- KEYS: replays
-- ARGV: prefix run
-- Returns: {'HANDED_OVER'}
-- Invariant: a run in replays is led on by workers. No message is on its way, so a pump sends one; take_turn sets the next time.
-- Shared: clock
local replays = unpack(KEYS)
local prefix, run = unpack(ARGV)
-- body
redis.call('ZREM', replays, run) -- a first write that a full Redis allows
redis.call('ZADD', replays, now, run)
return {'HANDED_OVER'}
