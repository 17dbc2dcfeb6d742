-- abandoned: what is known of a head that is about to be leased. Needs: clock, lane.

-- One more start whose worker never said how it ended.
local function abandoned(lane, id, tried, record)
  local attempts, times, first_at, last_at, rest = 0, 0, now, now, ''
  if tried then
    local _
    _, attempts, times, first_at, last_at = struct.unpack('>c16I2I2I8I8', tried)
    rest = string.sub(tried, 37)
  end
  tried = id .. struct.pack('>I2I2I8I8', attempts, times + 1, first_at, last_at) .. rest
  redis.call('HSET', trying, lane, tried)
  redis.call('ZADD', failing, 'NX', accepted_at(record), lane)
  mark_doubtful(id)
  return tried
end

-- The head's attempts, '' before any. A lease (left) that still stands for this head was left behind; tried is what was
-- stored.
local function known(lane, record, tried, left)
  local id = id_of(record)
  if left and leased_id(left) == id then
    tried = abandoned(lane, id, tried, record)
  end
  return tried or ''
end
