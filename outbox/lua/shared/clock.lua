-- clock: Redis's own time. Workers and producers may be a day off; nothing here depends on them.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Counts for plots: one hash a minute, kept for a day and a bit.
local function beat(what, count)
  local pulse = prefix .. 'pulse:' .. math.floor(now / 60000)
  if redis.call('HINCRBY', pulse, what, count) == count then
    redis.call('PEXPIRE', pulse, 93600000)
  end
end
