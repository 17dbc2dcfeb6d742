-- append: take one event into its visitor's lane.
-- KEYS: ledger books apps wake wake_delivery lingering
-- ARGV: prefix lane app draft once_key once_digest once_ms slot file
-- Returns: {'APPENDED', seq} | {'DUPLICATE', id and digest of the first event with this once_key} | {'ALREADY'} | {'CLOSED'}
--   | {'ERASED'}: it comes from a spool and its visitor was erased since; accepted and discarded have risen
-- Invariant: a lane with records is in its app's schedule, and its app in apps. A full Redis refuses the first write,
--   so nothing has changed by then: append is the one script that must not start by freeing memory.
-- Shared: clock pump record books tail entrance tombstones
local ledger, books, apps, wake, wake_delivery, lingering = unpack(KEYS)
local prefix, lane, app, draft, once_key, once_digest, once_ms, slot, file = unpack(ARGV)
-- body
local id = id_of(draft)
local refusal = turned_away(id, slot, file)
if refusal then
  return {refusal}
end
if file ~= '' and discard_erased(app, lane, draft, slot, file) then
  return {'ERASED'}
end
local once = prefix .. 'once:' .. app .. ':' .. once_key
if once_key ~= '' then
  local first = redis.call('GET', once)
  if first then
    if file ~= '' then
      list(id, file)
    else -- changes nothing, but who asks behind this whether all is safe hears of the first one too
      local left_ms = redis.call('PTTL', once)
      if left_ms > 0 then
        redis.call('PEXPIRE', once, left_ms)
      end
    end
    return {'DUPLICATE', first}
  end
  redis.call('SET', once, id .. once_digest, 'PX', once_ms) -- first: a time that is none must not leave half an event behind
end
note_entrance(id, slot, file)
local seq = redis.call('HINCRBY', ledger, 'accepted', 1)
local record = stamped(draft, app, seq, now)
book(app, record, 'accepted', 'waiting')
join(lane, app, record)
beat('accepted', 1)
return {'APPENDED', seq}
