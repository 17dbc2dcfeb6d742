-- entrance: an entry is taken in once, however often and late it is sent.
-- slot:SLOT holds the last id that one of a producer's concurrent calls has brought in. When the outcome of a call is not
-- known, its slot is used no more, and the entry comes again from the spool: then the slot either holds its id, or is
-- closed, and a packet that was only late is refused. spool:FILE holds the last row of a spool that has come in.
local SLOT_MS = 604800000   -- no packet is later than a week
local SPOOL_MS = 7776000000 -- a flush that was killed goes on within 90 days

-- Why the entry must not come in, or nil. file '' is a producer's own call, else the row of a spool.
local function turned_away(id, slot, file, row)
  local holds = slot ~= '' and redis.call('GET', prefix .. 'slot:' .. slot)
  if file == '' then
    return holds == 'closed' and 'CLOSED' or nil
  end
  local last = redis.call('GET', prefix .. 'spool:' .. file)
  if holds == id or tonumber(last or 0) >= tonumber(row) then
    return 'ALREADY'
  end
end

local function note_entrance(id, slot, file, row)
  if slot ~= '' then
    redis.call('SET', prefix .. 'slot:' .. slot, file == '' and id or 'closed', 'PX', SLOT_MS)
  end
  if file ~= '' then
    redis.call('SET', prefix .. 'spool:' .. file, row, 'PX', SPOOL_MS)
  end
end
