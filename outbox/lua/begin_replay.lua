-- begin_replay: a replay run is stored, so that it can be stopped and gone on with.
-- KEYS: replays
-- ARGV: prefix run filter total skipped kept_ms
-- Returns: {'BEGUN'}
-- Invariant: the run is new. Nothing is sent yet.
-- Shared: replays
local replays = unpack(KEYS)
local prefix, run, filter, total, skipped, kept_ms = unpack(ARGV)
-- body
local key = replay_key(run)
redis.call('ZREM', replays, run) -- a first write that a full Redis allows: a replay drains it
redis.call('HSET', key, 'filter', filter, 'total', total, 'skipped', skipped)
redis.call('PEXPIRE', key, kept_ms)
return {'BEGUN'}
