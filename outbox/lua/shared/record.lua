-- record: the header of a record, which is all that scripts know of an event; docs/redis.md has the layout. Needs: clock.
-- Bytes that are no record must not break a script: a worker buries them.
local function version_of(record)
  return string.byte(record) or 0
end

local function id_of(record)
  return string.sub(record, 18, 33)
end

local function seq_of(record)
  return #record < 9 and 0 or struct.unpack('>I8', record, 2)
end

local function accepted_at(record)
  return #record < 17 and now or struct.unpack('>I8', record, 10)
end

-- Whether the header has a part, by its flag.
local function has(record, flag)
  return math.floor((string.byte(record, 45) or 0) / flag) % 2 == 1
end

-- The code of the event type, 0 when none can be read; the revenue in units of 1/10,000, or nil; whether the event has one
-- that is unknown, as one is that no producer has written: Lua's numbers are exact below 2^53 only. One look at the two bytes
-- is enough for most events.
local function type_and_revenue(record)
  local TOO_LARGE = 9007199254740992

  local code, flags = string.byte(record, 44, 45)
  if not flags or flags % 4 == 0 then
    return code or 0, nil, false
  end
  if has(record, 1) and #record >= 53 then
    local revenue = struct.unpack('>I8', record, 46)
    if revenue < TOO_LARGE then
      return code, revenue, false
    end
    return code, nil, true
  end
  return code, nil, has(record, 2)
end

-- A uid behind its length, and where the next part begins.
local function counted(record, at)
  local length = #record > at and struct.unpack('>I2', record, at) or 0
  return string.sub(record, at + 2, at + 1 + length), at + 2 + length
end

-- The guest's uid of an event with both, as it is sent, else ''; then where the next part begins.
local function guest_of(record)
  local at = 46 + (has(record, 1) and 8 or 0) + (has(record, 4) and 8 or 0) + (has(record, 8) and 25 or 0)
  if has(record, 16) then
    return counted(record, at)
  end
  return '', at
end

-- The uid of a lane that is named by a hash, else ''.
local function uid_of(record)
  local _, at = guest_of(record)
  return has(record, 32) and counted(record, at) or ''
end

-- The lane of the guest of an event with both, with the guest's uid as encoded in keys.py makes it.
local function guest_lane(app, record)
  local MAX_ENCODED = 128

  local function percent(char) -- made here, since most scripts run for events that have no guest beside the visitor
    return string.format('%%%02X', string.byte(char))
  end
  local uid = guest_of(record)
  local name = string.gsub(uid, '[^0-9A-Za-z_.-]', percent)
  return app .. '/g/' .. (#name <= MAX_ENCODED and name or '~' .. redis.sha1hex(uid))
end

-- The draft of a record that Python has made, with what Redis knows. An event with both uids goes after everything that
-- its guest did before it.
local function stamped(draft, app, seq, accepted_at_ms)
  local barrier = 0
  if has(draft, 16) and redis.call('EXISTS', prefix .. 'lane:' .. guest_lane(app, draft)) == 1 then
    barrier = seq
  end
  return string.sub(draft, 1, 1) .. struct.pack('>I8I8', seq, accepted_at_ms) .. id_of(draft) .. struct.pack('>I8', barrier)
    .. string.sub(draft, 42)
end
