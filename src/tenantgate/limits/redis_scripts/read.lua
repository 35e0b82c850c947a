-- What counters say now; nothing is written.
-- KEYS: raises, counters. Given: for each counter its name, period in µs (0: a calendar's), end of the window in
--   ms, most.
-- Gives Redis' time in ms; for each counter used, held, most, reset in ms, and what of the used is of expired requests,
--   of expired leases, of streams that broke off, and of what a provider may have done.
local FIRST, COUNTER = 0, 4
local answer = {now_ms}
for i = 2, #KEYS do
  local at = FIRST + (i - 2) * COUNTER
  local c = open(KEYS[i], given[at + 2], 86400000)
  local most = min(MOST, given[at + 4] + raised(call('HGET', KEYS[1], given[at + 1])))
  local out = #answer
  answer[out + 1], answer[out + 2], answer[out + 3] = c.total - c.held, c.held, most
  answer[out + 4] = c.period == 0 and given[at + 3] or reset_ms(c, most, 1)
  local found = call('HMGET', KEYS[i], 'xe', 'xl', 'xc', 'xu')
  for n, cause in ipairs({'xe', 'xl', 'xc', 'xu'}) do
    answer[out + 4 + n] = max(0, (whole(found[n]) or 0) + (c.doubts[cause] or 0))
  end
end
return answered(answer)
