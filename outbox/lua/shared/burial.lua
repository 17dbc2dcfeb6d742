-- burial: the head of a leased lane becomes a dead letter. Needs: clock, lane, letter, replays.
local function bury_head(lane, id, head, group, meta)
  redis.call('LPOP', lane_key(lane))
  redis.call('HDEL', trying, lane)
  redis.call('ZREM', failing, lane)
  redis.call('HINCRBY', ledger, 'waiting', -1)
  put_letter(id, app_of(lane), lane, group, meta, head)
  end_replayed({id}, 'returned')
end
