-- Put what a request used in the place of what was held for it, once.
-- KEYS: the note that the request is settled, raises, counters.
-- Given: counters, how sure the usage is (0 exact, 1 lower bound, 2 uncertain, 3 none), ms for which the note is
--   kept; for each counter its name, period in µs (0: a calendar's), ms for which a reservation may live, ms for which
--   the counter is kept, end of the window in ms, µs that are one run, most, amount, what of it is known, 1 for requests.
-- Gives 1, 0 if it was settled before; Redis' time in ms; what has expired; for each counter used, held, most, reset.
local FIRST, COUNTER = 3, 10
local LOWER_BOUND, UNCERTAIN, NONE = 1, 2, 3
local counters, certainty = given[1], given[2]
local names, all, expired = {}, {}, 0
for i = 1, counters do names[i] = given[FIRST + (i - 1) * COUNTER + 1] end
local raises = counters > 0 and call('HMGET', KEYS[2], unpack(names)) or {}
local first = call('EXISTS', KEYS[1]) == 0
for i = 1, counters do
  local at = FIRST + (i - 1) * COUNTER
  all[i] = kept(open(KEYS[2 + i], given[at + 2], given[at + 3]))
  expired = expired + all[i].expired
end

local answer = {first and 1 or 0, now_ms, expired}
for i, c in ipairs(all) do
  local at = FIRST + (i - 1) * COUNTER
  local lasting, ending, width = given[at + 4], given[at + 5], given[at + 6]
  local most, used, known, requests = given[at + 7], given[at + 8], given[at + 9], given[at + 10] == 1
  local own = c.own
  if first and (own or not (requests and c.period > 0)) then
    if own and certainty == UNCERTAIN then used = own.amount end
    if own and certainty == LOWER_BOUND then used = max(used, own.amount) end
    if certainty == NONE then used = 0 end
    if own and c.period > 0 then
      -- What is more counts from now on: a reply may take longer than the window.
      take(c, own.amount - used, own.time)
      add(c, used - own.amount, width)
      c.own = nil
    else
      forget(c)
      add(c, used, width)
      doubt(c, certainty == LOWER_BOUND and 'xc' or 'xu', max(0, used - known))
    end
    write(c)
    if own then call('HDEL', c.key, mine) end
    local lasts = c.period > 0 and ceil(c.period / 1000) or max(0, ending - now_ms) + lasting
    if call('PTTL', c.key) < lasts then call('PEXPIRE', c.key, lasts) end
  end
  most = min(MOST, most + raised(raises[i]))
  at = 4 * i
  answer[at], answer[at + 1], answer[at + 2] = c.total - c.held, c.held, most
  answer[at + 3] = c.period == 0 and ending or reset_ms(c, most, 1)
end
if first then call('SET', KEYS[1], 1, 'PX', given[3]) end
return answered(answer)
