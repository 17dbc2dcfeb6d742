-- tombstones: a spool must not bring back the events of an erased person. Needs: clock, entrance.
-- erased:HASH holds when the person was erased, on Redis's clock. HASH is the SHA-1 of the owner's lane, APP/v/UID or
-- APP/g/UID, or of the lane without its app (/v/UID) when the person was erased in all apps.
local TOMBSTONE_MS = 7776000000 -- 90 days, as long as a flush that was killed may take to go on
local CLOCKS_MS = 300000        -- the clock of the producer's machine may be behind or ahead by 5 minutes

local function tombstone_key(owner)
  return prefix .. 'erased:' .. redis.sha1hex(owner)
end

-- The time at which an event was made, on its producer's clock: the first 48 bits of a UUIDv7.
local function made_at(id)
  local high, low = struct.unpack('>I4I2', id)
  return high * 65536 + low
end

-- Whether the event comes from a spool and its owner was erased after it was made. Then it is accepted and discarded in
-- this step, so that the books balance and the spool can drop it.
local function discard_erased(owner, id, slot, file)
  if file == '' or owner == '' then
    return false
  end
  for _, name in ipairs({owner, string.match(owner, '/.*')}) do
    local erased_at = redis.call('GET', tombstone_key(name))
    if erased_at and made_at(id) <= tonumber(erased_at) + CLOCKS_MS then
      note_entrance(id, slot, file)
      redis.call('HINCRBY', ledger, 'accepted', 1)
      redis.call('HINCRBY', ledger, 'discarded', 1)
      return true
    end
  end
  return false
end
