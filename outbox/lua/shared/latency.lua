-- latency: how long an app's deliveries take. Needs: clock, record.
-- latency:APP is a hash of two histograms. delivered:E and post:E count what took less than 2^E ms, and 2^(E-1) ms or more;
-- delivered_ms and post_ms are the sums.
local NO_POST_MS = 4294967295 -- the caller does not know
local LAST = 27               -- 37 hours; what takes longer is counted here, too

local function note_histogram(key, name, counts, sum)
  for exponent, count in pairs(counts) do
    redis.call('HINCRBY', key, name .. ':' .. exponent, count)
  end
  if next(counts) then
    redis.call('HINCRBY', key, name .. '_ms', sum)
  end
end

-- Records were answered 200. Those that a replay had brought back (replayed[i]) have no age that says anything. After a step
-- back of the clock an age counts as 0.
local function note_latency(app, records, replayed, posts_ms)
  local ages, posts, ages_ms, all_posts_ms = {}, {}, 0, 0
  for i, record in ipairs(records) do
    if not replayed[i] then
      local age = math.max(0, now - accepted_at(record))
      local _, exponent = math.frexp(age)
      exponent = math.min(exponent, LAST)
      ages[exponent] = (ages[exponent] or 0) + 1
      ages_ms = ages_ms + age
    end
    if posts_ms[i] ~= NO_POST_MS then
      local _, exponent = math.frexp(posts_ms[i])
      exponent = math.min(exponent, LAST)
      posts[exponent] = (posts[exponent] or 0) + 1
      all_posts_ms = all_posts_ms + posts_ms[i]
    end
  end
  local key = prefix .. 'latency:' .. app
  note_histogram(key, 'delivered', ages, ages_ms)
  note_histogram(key, 'post', posts, all_posts_ms)
end
