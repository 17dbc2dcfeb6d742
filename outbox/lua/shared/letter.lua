-- letter: how a dead letter is written, read and taken away. Needs: clock, record, books.
-- Layout, big-endian: version 1 (1 byte), died at ms (8), place in the order of burial (8), then with their lengths: app (2),
-- lane (2), group (2), meta (4), record. The clock may be set back, so the order of burial is counted.
-- dead:index:APP has an app's letters in the order of acceptance; dead:apps the apps that have letters.
local function dead_index_key(app)
  return prefix .. 'dead:index:' .. app
end

-- dead:groups counts the letters of a group, which is a type, a tab and a reason; the fields of a group have its name, a tab and
-- count, revenue, unknown (revenues) or last_ms (when the last one died). Returns the count. sign: 1 or -1.
local function count_group(group, record, sign)
  local _, revenue, unknown = type_and_revenue(record)
  if unknown then
    redis.call('HINCRBY', dead_groups, group .. '\tunknown', sign)
  elseif revenue then
    add_revenue(dead_groups, group .. '\trevenue', sign * revenue)
  end
  return redis.call('HINCRBY', dead_groups, group .. '\tcount', sign)
end

-- The id of a new letter: its event's, unless that is too short for one (bytes that are no record) or another letter has it:
-- two copies of an event, or damaged records. Then it is one of its own, which no event has: those are UUIDs of version 7.
local function new_letter_id(id, lane, burial)
  local text = lane .. ' ' .. burial
  while #id < 16 or redis.call('HEXISTS', dead, id) == 1 do
    text = redis.sha1hex(text)
    id = string.sub(text, 1, 16)
  end
  return id
end

-- id: the event's. lane is '' for an event that names no usable visitor; its letter belongs to the app all the same. Returns
-- the letter's id.
local function put_letter(id, app, lane, group, meta, record)
  local burial = redis.call('HINCRBY', ledger, 'burials', 1)
  id = new_letter_id(id, lane, burial)
  redis.call('HSET', dead, id, struct.pack('>BI8I8I2c0I2c0I2c0I4', 1, now, burial, #app, app, #lane, lane, #group, group, #meta)
    .. meta .. record)
  redis.call('ZADD', dead_index_key(app), seq_of(record), id)
  redis.call('SADD', dead_apps, app)
  count_group(group, record, 1)
  redis.call('HSET', dead_groups, group .. '\tlast_ms', now)
  beat('dead', 1)
  return id
end

-- {burial, app, lane, group, record}
local function read_letter(data)
  local _, _, burial, app, lane, group, meta_length, at = struct.unpack('>BI8I8I2c0I2c0I2c0I4', data)
  local record = string.sub(data, at + meta_length)
  return {burial = burial, app = app, lane = lane, group = group, record = record}
end

-- id: the letter's. letter: from read_letter.
local function take_letter(id, letter)
  local index = dead_index_key(letter.app)
  redis.call('HDEL', dead, id)
  redis.call('ZREM', index, id)
  if redis.call('EXISTS', index) == 0 then
    redis.call('SREM', dead_apps, letter.app)
  end
  if count_group(letter.group, letter.record, -1) <= 0 then
    for _, name in ipairs({'count', 'revenue', 'unknown', 'last_ms'}) do
      redis.call('HDEL', dead_groups, letter.group .. '\t' .. name)
    end
  end
end
