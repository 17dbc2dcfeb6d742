-- quarantine: which lanes of an app's quarantine may be claimed. Needs: clock.
-- quarantine_apps is a sorted set: app -> when a lane was last claimed from its quarantine, so that the apps take turns.
local PATIENCE_MS = 5000 -- due for so long before a process makes room for it

-- The lanes of an app that have been due for PATIENCE_MS, the longest first; none while the app may not be claimed.
local function quarantined(app, count)
  local open_at = redis.call('ZSCORE', apps, app)
  if not open_at or tonumber(open_at) > now then
    return {}
  end
  return redis.call('ZRANGEBYSCORE', prefix .. 'quarantine:' .. app, '-inf', now - PATIENCE_MS, 'LIMIT', 0, count)
end
