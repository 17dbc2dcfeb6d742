-- replays: a replay run counts what becomes of the events that it has sent back to their lanes.
-- replaying has an entry for each of them that has not left its lane: event id -> run, a space, lane.
local function replay_key(run)
  return prefix .. 'replay:' .. run
end

-- Whether an event that a replay has sent waits in a lane. A copy of it waits for that: an id has one entry in replaying.
local function is_replaying(id)
  return redis.call('HEXISTS', replaying, id) == 1
end

-- A run sends an event back to a lane; id: the event's, as in its record, by which the way out of the lane knows it.
local function begin_replayed(run, id, lane)
  redis.call('HINCRBY', replay_key(run), 'replayed', 1)
  redis.call('HSET', replaying, id, run .. ' ' .. lane)
end

-- How many events of a run have not left their lanes.
local function outstanding(run)
  local counts = redis.call('HMGET', replay_key(run), 'replayed', 'delivered', 'returned', 'discarded')
  local replayed, delivered, returned, discarded = unpack(counts)
  return tonumber(replayed or 0) - tonumber(delivered or 0) - tonumber(returned or 0) - tonumber(discarded or 0)
end

-- Events have left their lanes. how: 'delivered', 'returned' (dead letters again) or 'discarded'. ids: one at least.
-- Returns for each of them what replaying held of it: false for one that no replay had sent.
local function end_replayed(ids, how)
  local entries = redis.call('HMGET', replaying, unpack(ids))
  for i, entry in ipairs(entries) do
    if entry and redis.call('HDEL', replaying, ids[i]) == 0 then
      entries[i] = false -- a copy of an event before it, which has taken the entry
    elseif entry then
      local key = replay_key(string.match(entry, '^%S+'))
      if redis.call('EXISTS', key) == 1 then -- it is kept for 30 days
        redis.call('HINCRBY', key, how, 1)
      end
    end
  end
  return entries
end
