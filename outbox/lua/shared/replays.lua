-- replays: where a replay run is stored.
local function replay_key(run)
  return prefix .. 'replay:' .. run
end
