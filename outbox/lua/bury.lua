-- bury: the head of a leased lane becomes a dead letter with no attempt: unreadable, poison, or an operator's wish.
-- KEYS: ledger books apps lease trying failing wake wake_delivery lingering replaying dead dead_apps dead_groups
-- ARGV: prefix lane token id group meta lease_ms version
-- Returns: {'BURIED', next record or '', id of the letter} | {'ALREADY', next record or '', ''} | {'SUPERSEDED', '', ''}
-- Invariant: the record leaves its lane and enters the dead letters in one step, unchanged. The circuit breaker is not asked.
-- Shared: clock pump record lane barrier advance books tally letter replays left burial breaker
local ledger, books, apps, lease, trying, failing, wake, wake_delivery, lingering, replaying, dead, dead_apps, dead_groups = unpack(KEYS)
local prefix, lane, token, id, group, meta, lease_ms, version = unpack(ARGV)
-- body
local status, head, worker = standing(lane, token, id)
if status == 'SUPERSEDED' then
  return {status, '', ''}
end
if status == 'ALREADY' then
  return {status, go_on(lane, head, token, worker, lease_ms, version), ''}
end
local letter = bury_head(lane, id, head, group, meta)
give_back_probe(lane)
local following = go_on(lane, redis.call('LINDEX', lane_key(lane), 0), token, worker, lease_ms, version)
if following == '' then -- nothing was sent, and nothing will be
  give_back_token(lane)
end
return {'BURIED', following, letter}
