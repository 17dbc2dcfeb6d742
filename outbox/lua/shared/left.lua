-- left: what every way out of a lane has in common. Needs: clock, record, advance, books, tally, replays.

-- Several records are delivered or discarded; see book_row.
local function book_all(app, records, to)
  for code, found in pairs(tally(records)) do
    for _, key in ipairs({prefix .. 'books:' .. code, prefix .. 'books:' .. app .. '/' .. code}) do
      book_row(key, 'waiting', to, found.count, found.revenues[1], found.unknown)
      for i = 2, #found.revenues do
        add_revenue(key, 'revenue_waiting', -found.revenues[i])
      end
    end
  end
end

-- Records of an app have left their lanes; how: delivered, dead or discarded. heads: lanes whose head is among them and of which
-- nothing else is to be forgotten (forget.lua). Returns for each record what replaying held of it: false for one that no
-- replay had sent.
local function records_left(app, heads, records, how)
  if #heads > 0 then
    forget_attempts(app, heads)
  end
  if #records == 1 then
    book(app, records[1], 'waiting', how)
  else
    book_all(app, records, how)
  end
  local ids = {}
  for i, record in ipairs(records) do
    ids[i] = id_of(record)
  end
  return end_replayed(ids, how == 'dead' and 'returned' or how)
end
