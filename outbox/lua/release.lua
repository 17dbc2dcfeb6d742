-- release: give a leased lane back with nothing decided and no attempt counted.
-- KEYS: ledger apps lease trying doubtful wake wake_delivery lingering
-- ARGV: prefix lane token id duplicate
-- Returns: {'RELEASED' | 'MARKED' | 'ALREADY' | 'SUPERSEDED'}
-- Invariant: the lane's records and what is known of its head are untouched.
-- duplicate: '1' when the tracker may have taken the event all the same. MARKED: that is all, since it is not the head.
-- Shared: clock pump record lane breaker
local ledger, apps, lease, trying, doubtful, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, lane, token, id, duplicate = unpack(ARGV)
-- body
local status = standing(lane, token, id)
if status == 'SUPERSEDED' or status == 'ALREADY' and duplicate == '' then
  return {status}
end
redis.call('HDEL', lease, '') -- a first write that a full Redis allows
if duplicate == '1' then
  mark_doubtful(id)
end
if status == 'ALREADY' then
  return {'MARKED'}
end
make_due(lane, 0)
give_back_probe(lane)
give_back_token(lane)
return {'RELEASED'}
