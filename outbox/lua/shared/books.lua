-- books: how many events of each type there are and what became of them, for the whole relay and for each app. Needs: record.
-- books:TYPE and books:APP/TYPE are hashes of counters. TYPE is the type code of the record's header; the set books holds
-- each APP/TYPE. In each hash accepted = delivered + waiting + dead + discarded. docs/redis.md explains the fields.

-- Add to a sum of revenues. A sum that leaves int64 wraps around, as in C: it is right again when enough revenue has left.
-- A sum below 0 says that it does not fit. Redis refuses such a step, so it is made in parts that do not overflow.
local function add_revenue(key, field, by)
  if by == 0 then -- Redis takes no -0
    return
  end
  local done = redis.pcall('HINCRBY', key, field, by)
  if type(done) == 'number' then
    return
  end
  if not string.find(done.err, 'overflow', 1, true) then
    error(done.err)
  end
  if by > 0 then
    redis.call('HINCRBY', key, field, '-9223372036854775808')
    redis.call('HINCRBY', key, field, by)
    redis.call('HINCRBY', key, field, '-9223372036854775808')
  else
    redis.call('HINCRBY', key, field, '9223372036854775807')
    redis.call('HINCRBY', key, field, by)
    redis.call('HINCRBY', key, field, '9223372036854775807')
    redis.call('HINCRBY', key, field, 2)
  end
end

-- Events of an app, all of one type, move from one column to another. from: accepted (they are new), waiting, dead. to:
-- waiting, dead, delivered, discarded; or corrected: an operator has changed dead events, and they are accepted anew, perhaps
-- as another type or of another app. revenue: their sum, below 2^53, where Lua's numbers are exact, or nil. unknown: how many
-- have an unknown revenue. Returns the accepted events of the book if from is accepted.
local function book_row(key, from, to, count, revenue, unknown)
  local accepted
  if from == 'accepted' then
    accepted = redis.call('HINCRBY', key, 'accepted', count)
  else
    redis.call('HINCRBY', key, from, -count)
  end
  if to == 'corrected' then
    redis.call('HINCRBY', key, 'accepted', -count)
  else
    redis.call('HINCRBY', key, to, count)
  end
  if to == 'dead' then
    redis.call('HINCRBY', key, 'buried', count)
  elseif from == 'dead' and to ~= 'discarded' then
    redis.call('HINCRBY', key, 'replayed', count)
  end
  if revenue and from ~= 'accepted' then
    add_revenue(key, 'revenue_' .. from, -revenue)
  end
  if revenue and (to == 'waiting' or to == 'dead') then
    add_revenue(key, 'revenue_' .. to, revenue)
  end
  if unknown > 0 and from ~= 'accepted' then
    redis.call('HINCRBY', key, 'unknown_' .. from, -unknown)
  end
  if unknown > 0 and (to == 'waiting' or to == 'dead') then
    redis.call('HINCRBY', key, 'unknown_' .. to, unknown)
  end
  return accepted
end

-- One event; see book_row.
local function book(app, record, from, to)
  local code, revenue, is_unknown = type_and_revenue(record)
  local unknown = is_unknown and 1 or 0
  local row = app .. '/' .. code
  book_row(prefix .. 'books:' .. code, from, to, 1, revenue, unknown)
  if book_row(prefix .. 'books:' .. row, from, to, 1, revenue, unknown) == 1 then
    redis.call('SADD', books, row) -- the first one of this type and app
  end
end
