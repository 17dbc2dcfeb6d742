-- burial: the head of a leased lane becomes a dead letter. Needs: clock, lane, letter, left.

-- Returns the letter's id.
local function bury_head(lane, id, head, group, meta)
  redis.call('LPOP', lane_key(lane))
  records_left(app_of(lane), {lane}, {head}, 'dead')
  return put_letter(id, app_of(lane), lane, group, meta, head)
end
