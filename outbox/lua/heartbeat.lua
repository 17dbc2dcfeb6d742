-- heartbeat: a worker is alive; it learns the state of the books, and reports when they have jumped back.
-- KEYS: ledger workers epoch jumps
-- ARGV: prefix worker kept_ms known_epoch known_accepted known_waiting new_epoch
-- Returns: {epoch, accepted, waiting, 1 if this call reported a jump else 0}
-- Invariant: workers has 1000 names at most, of the last kept_ms; jumps has the latest 20 that no operator has acknowledged.
-- known_...: what this worker's last heartbeat returned, '' 0 0 at its first. The epoch is written when there is none and goes
--   with the data: another epoch says that all keys were deleted or are those of another Redis. Fewer events accepted in the
--   same epoch say that the last writes were lost; a new epoch begins then, so that the other workers' reports of the same
--   jump are merged into one entry.
-- An entry of jumps: at ms, epoch before, epoch after, accepted before, accepted after, waiting before, in decimal and hex digits.
-- Shared: clock waiting
local ledger, workers, epoch, jumps = unpack(KEYS)
local prefix, worker, kept_ms, known_epoch, known_accepted, known_waiting, new_epoch = unpack(ARGV)
-- body
local MOST_WORKERS, MOST_JUMPS = 1000, 20

known_accepted, known_waiting = tonumber(known_accepted), tonumber(known_waiting)
local found = redis.call('GET', epoch)
local accepted, waiting = tonumber(redis.call('HGET', ledger, 'accepted') or 0), waiting_events()

redis.call('ZREM', workers, worker) -- a first write that a full Redis allows
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - kept_ms)
redis.call('ZREMRANGEBYSCORE', workers, now + kept_ms, '+inf') -- from before a step of the clock
redis.call('ZADD', workers, now, worker)
redis.call('ZREMRANGEBYRANK', workers, 0, -1 - MOST_WORKERS)

local lost = known_epoch ~= '' and (found ~= known_epoch or accepted < known_accepted)
local current = found or new_epoch
if lost and found == known_epoch then
  current = new_epoch
end
if current ~= found then
  redis.call('SET', epoch, current)
end
if not lost then
  return {current, accepted, waiting, 0}
end

local accepted_after = accepted
local pair = known_epoch .. ' ' .. current
for _, entry in ipairs(redis.call('LRANGE', jumps, 0, MOST_JUMPS - 1)) do
  local _, before, after, most, least, waited = string.match(entry, '^(%d+) (%x+) (%x+) (%d+) (%d+) (%d+)$')
  if before and before .. ' ' .. after == pair then
    redis.call('LREM', jumps, 1, entry)
    known_accepted, accepted_after = math.max(known_accepted, tonumber(most)), tonumber(least)
    known_waiting = math.max(known_waiting, tonumber(waited))
  end
end
local numbers = string.format('%.0f %.0f %.0f', known_accepted, accepted_after, known_waiting)
redis.call('LPUSH', jumps, string.format('%.0f', now) .. ' ' .. pair .. ' ' .. numbers)
redis.call('LTRIM', jumps, 0, MOST_JUMPS - 1)
return {current, accepted, waiting, 1}
