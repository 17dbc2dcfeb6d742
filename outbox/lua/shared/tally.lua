-- tally: records by type. Needs: record.
-- Type code -> count, unknown (how many have an unknown revenue), revenues: a list of sums below 2^53, where Lua's numbers are
-- exact.
local function tally(records)
  local MAX = 9007199254740991

  local tallies = {}
  for _, record in ipairs(records) do
    local code, revenue, unknown = type_and_revenue(record)
    local found = tallies[code]
    if not found then
      found = {}
      found.count, found.unknown, found.revenues = 0, 0, {}
      tallies[code] = found
    end
    found.count = found.count + 1
    if unknown then
      found.unknown = found.unknown + 1
    elseif revenue then
      local sums = found.revenues
      local last = #sums
      if last > 0 and sums[last] + revenue <= MAX then
        sums[last] = sums[last] + revenue
      else
        sums[last + 1] = revenue
      end
    end
  end
  return tallies
end
