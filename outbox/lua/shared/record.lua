-- record: how the record of an event is written; docs/redis.md has the layout. Needs: clock.

-- What follows the id. An event with both uids goes after everything that its guest did before it.
local function after_id(app, seq, guest_uid, payload)
  local barrier = 0
  if guest_uid ~= '' and redis.call('EXISTS', prefix .. 'lane:' .. app .. '/g/' .. guest_uid) == 1 then
    barrier = seq
  end
  return struct.pack('>I8B', barrier, #guest_uid) .. guest_uid .. payload
end

-- The record of an event that is accepted now.
local function new_record(app, seq, id, guest_uid, payload)
  return struct.pack('>BI8I8', 1, seq, now) .. id .. after_id(app, seq, guest_uid, payload)
end
