-- release: give a leased lane back with nothing decided and no attempt counted.
-- KEYS: ledger apps lease trying failing doubtful wake
-- ARGV: prefix lane fence id delay_ms tried doubt
-- Returns: {'RELEASED' | 'ALREADY' | 'SUPERSEDED'}
-- Invariant: the lane's records are untouched. tried '' leaves what is known of the head as it is; else its two counts
--   stay as they are stored, since report may have taken attempts back meanwhile.
-- Shared: clock pump lane
local ledger, apps, lease, trying, failing, doubtful, wake = unpack(KEYS)
local prefix, lane, fence, id, delay_ms, tried, doubt = unpack(ARGV)
-- body
local status, head = standing(lane, fence, id)
if status ~= 'HEAD' then
  return {status}
end
make_due(lane, tonumber(delay_ms))
give_back_probe(lane)
give_back_token(lane)
if tried ~= '' then
  local known = redis.call('HGET', trying, lane)
  local counts = known and string.sub(known, 17, 20) or struct.pack('>I2I2', 0, 0)
  redis.call('HSET', trying, lane, string.sub(tried, 1, 16) .. counts .. string.sub(tried, 21))
  redis.call('ZADD', failing, 'NX', accepted_at(head), lane)
end
if doubt == '1' then
  mark_doubtful(id)
end
return {'RELEASED'}
