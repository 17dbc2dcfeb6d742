-- letter: how a dead letter is written, read and taken away. Needs: clock, record.
-- Layout, big-endian: version 1 (1 byte), died at ms (8), place in the order of burial (8), then with their lengths: app (2),
-- lane (2), group (2), meta (4), record. The clock may be set back, so the order of burial is counted.
-- dead:index:APP has an app's letters in the order of acceptance; dead:apps the apps that have letters.
local function dead_index_key(app)
  return prefix .. 'dead:index:' .. app
end

-- lane is '' for an event that names no usable visitor; its letter belongs to the app all the same.
local function put_letter(id, app, lane, group, meta, record)
  id = id .. string.rep('\0', 16 - #id) -- of bytes that are no record
  local burial = redis.call('HINCRBY', ledger, 'burials', 1)
  redis.call('HSET', dead, id, struct.pack('>BI8I8I2c0I2c0I2c0I4', 1, now, burial, #app, app, #lane, lane, #group, group, #meta)
    .. meta .. record)
  redis.call('ZADD', dead_index_key(app), seq_of(record), id)
  redis.call('SADD', dead_apps, app)
  redis.call('HINCRBY', dead_groups, group, 1)
  redis.call('HINCRBY', ledger, 'dead', 1)
  beat('dead', 1)
end

-- {burial, app, lane, group, record}
local function read_letter(data)
  local _, _, burial, app, lane, group, meta_length, at = struct.unpack('>BI8I8I2c0I2c0I2c0I4', data)
  local record = string.sub(data, at + meta_length)
  return {burial = burial, app = app, lane = lane, group = group, record = record}
end

-- letter: from read_letter.
local function take_letter(id, letter)
  local index = dead_index_key(letter.app)
  redis.call('HDEL', dead, id)
  redis.call('ZREM', index, id)
  if redis.call('EXISTS', index) == 0 then
    redis.call('SREM', dead_apps, letter.app)
  end
  if redis.call('HINCRBY', dead_groups, letter.group, -1) <= 0 then
    redis.call('HDEL', dead_groups, letter.group)
  end
  redis.call('HINCRBY', ledger, 'dead', -1)
end
