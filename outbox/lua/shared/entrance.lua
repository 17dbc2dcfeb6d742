-- entrance: an entry is taken in once, however often and late it is sent.
-- slot:SLOT holds the last id that one of a producer's concurrent calls has brought in. When the outcome of a call is not
-- known, its slot is used no more, and the entry comes again from the spool: then the slot either holds its id, or is
-- closed, and a packet that was only late is refused. spool:FILE lists the ids that came in last from a spool: a flush
-- that was killed before it dropped them brings them again.
local SLOT_MS = 604800000   -- no packet is later than a week
local SPOOL_MS = 7776000000 -- a flush that was killed goes on within 90 days
local SPOOL_IDS = 1024      -- a flush drops at the latest after 600

-- A flush asks for the list behind many rows: what is not there has been lost by a Redis that lost its last writes.
local function list(id, file)
  local spool = prefix .. 'spool:' .. file
  redis.call('LPUSH', spool, id)
  redis.call('LTRIM', spool, 0, SPOOL_IDS - 1)
  redis.call('PEXPIRE', spool, SPOOL_MS)
end

-- Why the entry must not come in, or nil. file '' is a producer's own call, else it comes from that spool; one that its
-- call had brought in is listed as well.
local function turned_away(id, slot, file)
  local holds = slot ~= '' and redis.call('GET', prefix .. 'slot:' .. slot)
  if file == '' then
    return holds == 'closed' and 'CLOSED' or nil
  end
  if redis.call('LPOS', prefix .. 'spool:' .. file, id) then
    return 'ALREADY'
  end
  if holds == id then
    list(id, file)
    return 'ALREADY'
  end
end

local function note_entrance(id, slot, file)
  if slot ~= '' then
    redis.call('SET', prefix .. 'slot:' .. slot, file == '' and id or 'closed', 'PX', SLOT_MS)
  end
  if file ~= '' then
    list(id, file)
  end
end
