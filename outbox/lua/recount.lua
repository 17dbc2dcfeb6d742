-- recount: count records by app and type, 1,000 at most, by reading their headers. For the audit.
-- KEYS: dead
-- ARGV: prefix lanes letters skip
-- Returns: {how many names are done, records of the next lane to skip, books, groups}, where each of books is {app, type code,
--   records, those with an unknown revenue, sums of revenue, ...}, and each of groups {group, and the same}
-- Invariant: nothing is changed.
-- lanes, letters: names of lanes or ids of dead letters, each behind its length (2 bytes). skip: so many records of the first
-- lane were counted before. groups: the letters by their groups.
-- Shared: clock record books tally letter
local dead = unpack(KEYS)
local prefix, lanes, letters, skip = unpack(ARGV)
-- body
local MAX_RECORDS, MAX_BYTES, AT_ONCE = 1000, 4194304, 100

local count, bytes = 0, 0
local by_app, by_group = {}, {}

local function keep(collected, name, record)
  collected[name] = collected[name] or {}
  table.insert(collected[name], record)
end

local function take(app, record, size)
  count, bytes = count + 1, bytes + size
  keep(by_app, app, record)
end

local function full()
  return count >= MAX_RECORDS or bytes >= MAX_BYTES
end

-- The records of a lane behind the first so many: how many are counted then, or nil when it is the last.
local function take_lane(lane, from)
  while not full() do
    local records = redis.call('LRANGE', prefix .. 'lane:' .. lane, from, from + math.min(AT_ONCE, MAX_RECORDS - count) - 1)
    if #records == 0 then
      return nil
    end
    for _, record in ipairs(records) do
      take(string.match(lane, '^[^/]*'), record, #record)
    end
    from = from + #records
  end
  return from
end

local function take_letter_of(id)
  local data = redis.call('HGET', dead, id)
  if data then
    local letter = read_letter(data)
    take(letter.app, letter.record, #data)
    keep(by_group, letter.group, letter.record)
  end
end

local function rows(collected)
  local found = {}
  for name, records in pairs(collected) do
    for code, sums in pairs(tally(records)) do
      found[#found + 1] = {name, code, sums.count, sums.unknown, unpack(sums.revenues)}
    end
  end
  return found
end

local done, at, name = 0, 1, nil
local from = tonumber(skip)
while at <= #lanes and not full() do
  name, at = struct.unpack('>I2c0', lanes, at)
  from = take_lane(name, from)
  if from then
    return {done, from, rows(by_app), {}}
  end
  done, from = done + 1, 0
end
at = 1
while at <= #letters and not full() do
  name, at = struct.unpack('>I2c0', letters, at)
  take_letter_of(name)
  done = done + 1
end
return {done, 0, rows(by_app), rows(by_group)}
