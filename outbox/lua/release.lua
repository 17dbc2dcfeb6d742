-- release: give a leased lane back with nothing decided and no attempt counted.
-- KEYS: ledger apps lease trying doubtful wake wake_delivery lingering
-- ARGV: prefix lane token id duplicate
-- Returns: {'RELEASED' | 'ALREADY' | 'SUPERSEDED'}
-- Invariant: the lane's records and what is known of its head are untouched.
-- duplicate: '1' when the tracker may have taken the event all the same.
-- Shared: clock pump record lane breaker
local ledger, apps, lease, trying, doubtful, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, lane, token, id, duplicate = unpack(ARGV)
-- body
local status = standing(lane, token, id)
if status ~= 'HEAD' then
  return {status}
end
make_due(lane, 0)
give_back_probe(lane)
give_back_token(lane)
if duplicate == '1' then
  mark_doubtful(id)
end
return {'RELEASED'}
