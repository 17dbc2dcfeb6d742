-- tombstones: a spool must not bring back the events of an erased person. Needs: clock, record, books, entrance.
-- erased:HASH holds when the person was erased, on Redis's clock. HASH is the SHA-1 of the owner's lane, APP/v/UID or
-- APP/g/UID, or of the lane without its app (/v/UID) when the person was erased in all apps.

-- Whether a spooled event was made before its owner was erased. Then it is accepted and discarded in this step, so that
-- the books balance and the spool can drop it. An id begins with 48 bits of ms, by the clock of the producer's machine.
local function discard_erased(app, owner, draft, slot, file)
  local CLOCKS_MS = 300000 -- that clock may be ahead of Redis's by 5 minutes

  local id = id_of(draft)
  local high, low = struct.unpack('>I4I2', id)
  for _, name in ipairs({owner, string.match(owner, '/.*')}) do
    local erased_at = redis.call('GET', prefix .. 'erased:' .. redis.sha1hex(name))
    if erased_at and high * 65536 + low <= tonumber(erased_at) + CLOCKS_MS then
      note_entrance(id, slot, file)
      redis.call('HINCRBY', ledger, 'accepted', 1)
      book(app, draft, 'accepted', 'discarded')
      return true
    end
  end
  return false
end
