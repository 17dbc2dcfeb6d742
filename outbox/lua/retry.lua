-- retry: an attempt has failed and is counted; the whole lane waits until it is due again, so that order is kept.
-- KEYS: ledger lease trying failing doubtful wake
-- ARGV: prefix lane fence id delay_ms tried doubt if_open
-- Returns: {'RETRIED' | 'ALREADY' | 'SUPERSEDED' | 'PAUSED'}
-- Invariant: the head stays the head; the lane is not due before the delay is over.
-- Shared: clock pump record lane
local ledger, lease, trying, failing, doubtful, wake = unpack(KEYS)
local prefix, lane, fence, id, delay_ms, tried, doubt, if_open = unpack(ARGV)
-- body
local status, head = standing(lane, fence, id)
if status ~= 'HEAD' then
  return {status}
end
if overtaken(lane, if_open) then
  return {'PAUSED'}
end
make_due(lane, tonumber(delay_ms))
redis.call('HSET', trying, lane, tried)
redis.call('ZADD', failing, 'NX', accepted_at(head), lane)
if doubt == '1' then
  mark_doubtful(id)
end
beat('failed', 1)
return {'RETRIED'}
