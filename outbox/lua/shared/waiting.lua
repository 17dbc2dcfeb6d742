-- waiting: how many events wait, by the books of all types.
local function waiting_events()
  local TYPE_CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255} -- event_type.py

  local count = 0
  for _, code in ipairs(TYPE_CODES) do
    count = count + tonumber(redis.call('HGET', prefix .. 'books:' .. code, 'waiting') or 0)
  end
  return count
end
