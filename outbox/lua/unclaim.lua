-- unclaim: give back what a claim leased whose answer never came; nothing of it was sent, so nothing is counted or marked.
-- KEYS: apps lease trying hint wake wake_delivery lingering
-- ARGV: prefix token
-- Returns: {how many lanes}
-- Invariant: only leases of this token end, and a token is of one claim only. As many leases are
--   looked through as there are lanes under way.
-- Shared: clock pump record lane breaker
local apps, lease, trying, hint, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, token = unpack(ARGV)
-- body
local given_back = 0
redis.call('DEL', hint)
local leases = redis.call('HGETALL', lease)
for i = 1, #leases, 2 do
  if token_of(leases[i + 1]) == token then
    make_due(leases[i], 0)
    give_back_probe(leases[i])
    give_back_token(leases[i])
    given_back = given_back + 1
  end
end
return {given_back}
