-- Hold what a request may take of all its counters, or of none where one has no room.
-- KEYS: the note that the request is settled, raises, a counter for each claim, a counter for each that is given back.
-- Given: claims, worst and expected tokens, 1 if it stands in place of an earlier one, 2 if nobody settles it. For each claim: the counter's
--   name, period in µs (0: a calendar's), ms for which a reservation may live, ms for which this one does, ms for which
--   the counter is kept, start and end of the window in ms, µs that are one run, most, fixed, whole units per token,
--   millionths of one, fewest tokens, flags. For each counter that is given back: period, and ms for which one may live.
-- Gives 0 held, 1 exhausted, 2 held by others, 3 another window; Redis' time in ms; most tokens; what has expired; then
--   for each claim 1 if it refuses, used, held, most, reset in ms.
local FIRST, CLAIM, GIVEN = 4, 14, 2
local EXPECTED, SHRINK, ADMIT, SHADOW, REQUESTS = 1, 2, 4, 8, 16
local claims, worst, expected, replaces, final = given[1], given[2], given[3], given[4] == 1, given[4] == 2

local function amount(c, tokens)
  local n = min(c.tokens, tokens)
  local all = min(MOST, c.fixed + n * c.each + ceil(n * c.rest / 1000000))
  if c.expects then all = min(all, max(c.fixed, c.most)) end -- else a small limit would never let it pass
  return all
end

-- The most tokens of a reply that fit into a room; -1 where not even the prompt does.
local function fitting(c, room)
  if room <= 0 or c.fixed > room then return -1 end
  if amount(c, worst) <= room then return worst end
  local n = max(0, min(worst, floor((room - c.fixed) / (c.each + c.rest / 1000000))))
  while n > 0 and amount(c, n) > room do n = n - 1 end
  while n < worst and amount(c, n + 1) <= room do n = n + 1 end
  return n
end

local function passes(c, room, tokens)
  if room <= 0 then return false end
  if c.admits then return true end
  if c.shrinks then return fitting(c, room) >= c.least end
  return amount(c, tokens) <= room
end

for i = 1, claims do
  local at = FIRST + (i - 1) * CLAIM
  local start, ending = given[at + 6], given[at + 7]
  if ending > 0 and (now_ms < start or now_ms >= ending) then return answered({3, now_ms}) end
end

local names, all, again, tokens, expired = {}, {}, false, worst, 0
for i = 1, claims do names[i] = given[FIRST + (i - 1) * CLAIM + 1] end
local raises = claims > 0 and call('HMGET', KEYS[2], unpack(names)) or {}
local settled = call('EXISTS', KEYS[1]) == 1

for i = 1, claims do
  local at = FIRST + (i - 1) * CLAIM
  local flags = given[at + 14]
  local c = kept(open(KEYS[2 + i], given[at + 2], given[at + 3]))
  c.deadline, c.lasts, c.ending = now_ms + given[at + 4], given[at + 5], given[at + 7]
  c.width, c.most = given[at + 8], min(MOST, given[at + 9] + raised(raises[i]))
  c.fixed, c.each, c.rest = given[at + 10], given[at + 11], given[at + 12]
  c.least = min(worst, given[at + 13])
  c.expects, c.shrinks, c.admits = bit.band(flags, EXPECTED) > 0, bit.band(flags, SHRINK) > 0, bit.band(flags, ADMIT) > 0
  c.shadow, c.requests = bit.band(flags, SHADOW) > 0, bit.band(flags, REQUESTS) > 0
  c.tokens = c.expects and expected or worst
  c.before, c.before_held = c.total, c.held
  if replaces then forget(c) end
  if c.own then again, tokens = true, min(tokens, c.own.tokens) end
  c.room = c.most - c.total
  expired = expired + c.expired
  all[i] = c
end

-- The fewest tokens of all claims that would rather have fewer than refuse.
if not (again or settled) then
  for _, c in ipairs(all) do
    if c.shrinks and not c.shadow then
      local n = fitting(c, c.room)
      if n >= c.least then tokens = min(tokens, n) end
    end
  end
end

local state = 0
if not (again or settled) then
  for _, c in ipairs(all) do
    c.refuses = not passes(c, c.room, tokens)
    if c.refuses and not c.shadow then
      if not passes(c, c.room + c.held, tokens) then state = 1 elseif state == 0 then state = 2 end
    end
  end
end

local answer = {state, now_ms, tokens, expired}
for i, c in ipairs(all) do
  local asked = amount(c, tokens)
  local least = max(1, c.admits and 1 or c.shrinks and amount(c, c.least) or asked)
  if c.admits and not c.shadow then asked = min(asked, max(0, c.room)) end
  if state == 0 and not settled and not c.own then
    add(c, asked, c.width)
    if not final then
      c.own = {amount = asked, time = now, deadline = c.deadline, charged = c.requests, tokens = tokens}
      if c.period == 0 and not c.requests then c.held = min(MOST, c.held + asked) end
      c.next_ms = min(c.next_ms or c.deadline, c.deadline)
    end
    write(c)
    call('PEXPIRE', c.key, c.period > 0 and c.lasts or c.ending - now_ms + c.lasts)
  elseif state > 0 or settled then
    c.total, c.held = c.before, c.before_held
  end
  local at = 5 * i
  answer[at], answer[at + 1], answer[at + 2] = c.refuses and 1 or 0, c.total - c.held, c.held
  answer[at + 3], answer[at + 4] = c.most, c.period == 0 and c.ending or reset_ms(c, c.most, least)
end

if replaces and state == 0 and not settled then
  for i = 3 + claims, #KEYS do
    local at = FIRST + claims * CLAIM + (i - 3 - claims) * GIVEN
    local c = kept(open(KEYS[i], given[at + 1], given[at + 2]))
    if c.own then
      forget(c)
      write(c)
      call('HDEL', c.key, mine)
    end
  end
end
return answered(answer)
