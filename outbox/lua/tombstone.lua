-- tombstone: from now on, the spooled events of an erased person from before now are discarded when they come in.
-- KEYS: ledger
-- ARGV: prefix owner
-- Returns: {'MARKED', now ms}
-- Invariant: the key holds a hash of the owner and a time, no uid (shared/tombstones.lua reads it).
-- owner is a lane, or a lane without its app (/v/UID) for all apps.
-- Shared: clock
local ledger = unpack(KEYS)
local prefix, owner = unpack(ARGV)
-- body
local TOMBSTONE_MS = 7776000000 -- 90 days, as long as a spool's list of ids

redis.call('HDEL', ledger, '') -- a first write that a full Redis allows
redis.call('SET', prefix .. 'erased:' .. redis.sha1hex(owner), now, 'PX', TOMBSTONE_MS)
return {'MARKED', now}
