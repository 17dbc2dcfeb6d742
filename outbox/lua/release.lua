-- release: give a leased lane back with nothing decided and no attempt counted.
-- KEYS: ledger apps lease trying failing doubtful wake
-- ARGV: prefix lane fence id delay_ms tried doubt
-- Returns: {'RELEASED' | 'ALREADY' | 'SUPERSEDED'}
-- Invariant: the lane's records are untouched. tried '' leaves what is known of the head as it is; else its attempts stay
--   as they are stored, since report may have taken some back meanwhile.
-- Shared: clock pump record lane
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
  local attempts = known and string.sub(known, 17, 18) or struct.pack('>I2', 0)
  redis.call('HSET', trying, lane, string.sub(tried, 1, 16) .. attempts .. string.sub(tried, 19))
  redis.call('ZADD', failing, 'NX', accepted_at(head), lane)
end
if doubt == '1' then
  mark_doubtful(id)
end
return {'RELEASED'}
