-- letter: how a dead letter is written and taken away. Needs: clock, record.
-- Layout, big-endian: version 1 (1 byte), died at ms (8), place in the order of burial (8), then with their lengths: lane (2),
-- group (2), meta (4), record. The clock may be set back, so the order of burial is counted.
local function put_letter(id, lane, group, meta, record)
  id = id .. string.rep('\0', 16 - #id) -- of bytes that are no record
  local burial = redis.call('HINCRBY', ledger, 'burials', 1)
  redis.call('HSET', dead, id, struct.pack('>BI8I8I2', 1, now, burial, #lane) .. lane .. struct.pack('>I2', #group) .. group
    .. struct.pack('>I4', #meta) .. meta .. record)
  redis.call('ZADD', dead_index, seq_of(record), id)
  redis.call('HINCRBY', dead_groups, group, 1)
  redis.call('HINCRBY', ledger, 'dead', 1)
  beat('dead', 1)
end

local function read_letter(letter)
  local lane_length = struct.unpack('>I2', letter, 18)
  local lane = string.sub(letter, 20, 19 + lane_length)
  local at = 20 + lane_length
  local group_length = struct.unpack('>I2', letter, at)
  local group = string.sub(letter, at + 2, at + 1 + group_length)
  at = at + 2 + group_length
  local meta_length = struct.unpack('>I4', letter, at)
  return lane, group, string.sub(letter, at + 4 + meta_length)
end

local function take_letter(id, group)
  redis.call('HDEL', dead, id)
  redis.call('ZREM', dead_index, id)
  if redis.call('HINCRBY', dead_groups, group, -1) <= 0 then
    redis.call('HDEL', dead_groups, group)
  end
  redis.call('HINCRBY', ledger, 'dead', -1)
end
