-- burial: the head of a leased lane becomes a dead letter. Needs: clock, lane, letter, left.
local function bury_head(lane, id, head, group, meta)
  redis.call('LPOP', lane_key(lane))
  records_left(app_of(lane), {lane}, {head}, 'dead')
  put_letter(id, app_of(lane), lane, group, meta, head)
end
