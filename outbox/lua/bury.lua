-- bury: the head of a leased lane becomes a dead letter; the lane goes on.
-- KEYS: ledger apps lease trying failing doubtful wake replaying dead dead_index dead_groups
-- ARGV: prefix lane fence id group meta doubt if_open lease_ms version
-- Returns: {'BURIED' | 'ALREADY', next record or ''} | {'SUPERSEDED' | 'PAUSED', ''}
-- Invariant: the record leaves its lane and enters the dead letters in one step, unchanged.
-- Shared: clock pump record lane barrier advance letter
local ledger, apps, lease, trying, failing, doubtful, wake, replaying, dead, dead_index, dead_groups = unpack(KEYS)
local prefix, lane, fence, id, group, meta, doubt, if_open, lease_ms, version = unpack(ARGV)
-- body
local status, head, worker = standing(lane, fence, id)

local function go_on(following)
  local going = {lane, following, struct.pack('>I8', fence), worker, lease_ms}
  return advance(app_of(lane), 1, {going}, version)[1]
end

if status == 'SUPERSEDED' then
  return {status, ''}
end
if status == 'ALREADY' then
  return {status, go_on(head)}
end
if overtaken(lane, if_open) then
  return {'PAUSED', ''}
end
redis.call('LPOP', lane_key(lane))
redis.call('HDEL', trying, lane)
redis.call('ZREM', failing, lane)
redis.call('HINCRBY', ledger, 'waiting', -1)
put_letter(id, lane, group, meta, head)
if doubt == '1' then
  mark_doubtful(id)
end
end_replays({lane}, {id}, 'returned')
give_back_probe(lane)
return {'BURIED', go_on(redis.call('LINDEX', lane_key(lane), 0))}
