-- tombstone: from now on, the spooled events of an erased person from before now are discarded when they come in.
-- KEYS: ledger
-- ARGV: prefix owner
-- Returns: {'MARKED', now ms}
-- Invariant: the key holds a hash of the owner and a time, no uid; it expires after 90 days.
-- owner is a lane, or a lane without its app (/v/UID) for all apps.
-- Shared: clock entrance tombstones
local ledger = unpack(KEYS)
local prefix, owner = unpack(ARGV)
-- body
redis.call('HDEL', ledger, '') -- a first write that a full Redis allows
redis.call('SET', tombstone_key(owner), now, 'PX', TOMBSTONE_MS)
return {'MARKED', now}
