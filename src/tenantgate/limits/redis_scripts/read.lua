-- What counters say now; nothing is written.
-- KEYS: raises, counters. ARGV: nothing; for each counter its name, period in µs (0: a calendar's), end of the window in
--   ms, most.
-- Gives Redis' time in ms; for each counter used, held, most, reset in ms.
local FIRST, COUNTER = 1, 4
local answer = {now_ms}
for i = 2, #KEYS do
  local at = FIRST + (i - 2) * COUNTER
  local c = open(KEYS[i], tonumber(ARGV[at + 2]), 86400000)
  local most = min(MOST, tonumber(ARGV[at + 4]) + raised(call('HGET', KEYS[1], ARGV[at + 1])))
  local out = #answer
  answer[out + 1], answer[out + 2], answer[out + 3] = c.total - c.held, c.held, most
  answer[out + 4] = c.period == 0 and tonumber(ARGV[at + 3]) or reset_ms(c, most, 1)
end
return answer
