-- What reserve.lua, settle.lua and read.lua have in common, put before each: counters as
-- tenantgate/limits/core/counters.py has them. ARGV: the request's id, and what is `given` to a script as MessagePack.
--
-- A counter is a hash: d, the time in ms at which a reservation may expire; r…, a reservation by the request's id, as
-- "amount time_us deadline_ms charged tokens", charged 0 while it is held and 1 once it counts, tokens with a 0 before
-- them once it has expired (0.1 reads that, too, and only forgets that nobody knows); in a calendar's u, all that counts, h, what of it live reservations hold, and by its cause what of it
-- nobody knows: xe of requests whose end never came, xl of leases of dead processes, xc of streams that broke off, xu
-- of what a provider may have done; in a sliding window l, the sum (64 bits, big-endian), then for each run, the oldest first, the time of its last
-- amount in µs (64) and the sum of its amounts (64). The work doesn't grow with the window: the sum stands for runs that
-- nothing is done with. What can't be read counts as none.
local SUM, RUN, MOST, LATE, AGAIN = 8, 16, 9007199254740992, 86400000, 1000
local call, sub, match, format = redis.call, string.sub, string.match, string.format
local pack, read, min, max, floor, ceil = struct.pack, struct.unpack, math.min, math.max, math.floor, math.ceil
local clock = call('TIME') -- the gateways' clocks may differ
local now = clock[1] * 1000000 + clock[2]
local now_ms = floor(now / 1000)
local mine = 'r' .. ARGV[1]
local LEASE = 'rlease-' -- how the fields of leases begin; requests have ids of Kong
local given = cmsgpack.unpack(ARGV[2]) -- one argument and one text as an answer: a client takes long for a hundred

local function whole(text)
  return text and #text <= 16 and match(text, '^%d+$') and min(MOST, tonumber(text)) or nil
end

local function reservation(text)
  local amount, time, deadline, charged, tokens = match(text, '^(%d+) (%d+) (%d+) ([01]) (%d+)$')
  local lost = tokens and #tokens > 1 and sub(tokens, 1, 1) == '0'
  amount, time, deadline, tokens = whole(amount), whole(time), whole(deadline), whole(tokens)
  if not (amount and time and deadline and tokens) then return nil end
  return {amount = amount, time = time, deadline = deadline, charged = charged == '1', lost = lost, tokens = tokens}
end

local function written(r)
  return format(
    '%.0f %.0f %.0f %d %s%.0f', r.amount, r.time, r.deadline, r.charged and 1 or 0, r.lost and '0' or '', r.tokens)
end

-- After a step back of the clock amounts are in the future: they count as made now. That is written down for a refused
-- request, too, or it would be now for as long as the step.
local function moved(text)
  local runs = {}
  for at = SUM + 1, #text, RUN do
    local ending, n = read('>I8I8', text, at)
    runs[#runs + 1] = pack('>I8I8', min(ending, now), n)
  end
  return sub(text, 1, SUM) .. table.concat(runs)
end

-- That of what a counter counts nobody knows so much more, or less.
local function doubt(c, cause, amount)
  if c.period == 0 and amount ~= 0 then c.doubts[cause] = (c.doubts[cause] or 0) + amount end
end

local function cause_of(field)
  return sub(field, 1, #LEASE) == LEASE and 'xl' or 'xe'
end

-- Reservations that have expired are charged from now on; those that nobody will settle any more are forgotten.
local function sweep(c)
  local all, seen = call('HGETALL', c.key), 0
  c.held, c.next_ms = 0, now_ms + c.life
  for i = 1, #all, 2 do
    local field = all[i]
    if sub(field, 1, 1) == 'r' then
      local r, changed = reservation(all[i + 1]), false
      seen = seen + 1
      if r and r.deadline > now_ms + c.life then -- the clock was set back
        r.deadline, changed = now_ms + c.life, true
      end
      if not r or now_ms >= r.deadline + (c.period == 0 and LATE or 0) then
        c.gone[#c.gone + 1] = field
        if r and not r.charged and c.period == 0 then
          c.expired = c.expired + r.amount
          doubt(c, cause_of(field), r.amount)
        end
        if field == mine then c.own = nil end
      else
        if now_ms < r.deadline then
          c.next_ms = min(c.next_ms, r.deadline)
          if not r.charged then c.held = c.held + r.amount end
        elseif not r.charged then
          r.charged, r.lost, changed, c.expired = true, true, true, c.expired + r.amount
          doubt(c, cause_of(field), r.amount)
        end
        if changed then
          c.changed[field] = written(r)
          if field == mine then c.own = r end
        end
      end
    end
  end
  c.swept = true
  c.next_ms = max(c.next_ms, now_ms + AGAIN + seen) -- where many expire one by one, some at a time
end

-- life: ms for which a reservation may live here
local function open(key, period, life)
  local found = call('HMGET', key, 'l', 'u', 'h', 'd', mine)
  local c = {key = key, period = period, life = life, total = 0, held = 0, runs = '', expired = 0, gone = {}, changed = {}, doubts = {}}
  if not (found[1] or found[2] or found[3] or found[4] or found[5]) then return c end
  c.next_ms, c.own = whole(found[4]), found[5] and reservation(found[5])
  if period == 0 then
    c.total, c.held = whole(found[2]) or 0, whole(found[3])
  elseif found[1] and #found[1] > SUM and (#found[1] - SUM) % RUN == 0 then
    local text, at = found[1], SUM + 1
    if (read('>I8', text, #text - RUN + 1)) > now then
      text = moved(text)
      c.moved = text
    end
    local total = read('>I8', text)
    while at <= #text do
      local ending, n = read('>I8I8', text, at)
      if ending > now - period then break end
      total, at = total - n, at + RUN
    end
    c.runs = sub(text, at)
    if c.runs ~= '' then c.total = max(0, min(MOST, total)) end -- whatever the sum was, if it wasn't ours
  end
  local next_ms = c.next_ms
  if not (next_ms and c.held) or now_ms >= next_ms or next_ms > now_ms + 2 * life then sweep(c) end
  if period > 0 then c.held = 0 end
  c.total = max(c.total, c.held)
  return c
end

-- Count an amount from now on; within `width` µs it is one run with the one before.
local function add(c, amount, width)
  if amount <= 0 then return end
  c.total = min(MOST, c.total + amount)
  if c.period == 0 then return end
  if c.runs ~= '' then
    local ending, before = read('>I8I8', c.runs, #c.runs - RUN + 1)
    if floor(ending / width) == floor(now / width) then
      c.runs, amount = sub(c.runs, 1, -RUN - 1), min(MOST, before + amount)
    end
  end
  c.runs = c.runs .. pack('>I8I8', now, amount)
end

-- No longer count an amount that was counted at a time.
local function take(c, amount, time)
  if amount <= 0 then return end
  if c.period == 0 then
    c.total = max(0, c.total - amount)
    return
  end
  if time <= now - c.period then return end -- it counts no longer
  local out = {}
  for at = 1, #c.runs, RUN do
    local ending, n = read('>I8I8', c.runs, at)
    if amount > 0 and ending >= min(time, now) then
      local part = min(n, amount)
      n, amount, c.total = n - part, amount - part, max(0, c.total - part)
    end
    if n > 0 then out[#out + 1] = pack('>I8I8', ending, n) end
  end
  c.runs = table.concat(out)
end

-- Take the request's own reservation out: as if it had never been.
local function forget(c)
  local own = c.own
  if not own then return end
  c.own, c.was = nil, own
  if c.period == 0 and not own.charged then c.held = max(0, c.held - own.amount) end
  if own.lost then doubt(c, cause_of(mine), -own.amount) end
  take(c, own.amount, own.time)
end

local function write_doubts(c)
  for cause, amount in pairs(c.doubts) do call('HINCRBY', c.key, cause, format('%.0f', amount)) end
  c.doubts = {}
end

-- Write what opening a counter has found to have changed: what expired, and what a step of the clock does.
local function kept(c)
  for _, field in ipairs(c.gone) do call('HDEL', c.key, field) end
  for field, text in pairs(c.changed) do call('HSET', c.key, field, text) end
  if c.swept then call('HSET', c.key, 'd', format('%.0f', c.next_ms)) end
  if c.swept and c.period == 0 then call('HSET', c.key, 'h', format('%.0f', c.held)) end
  if c.moved then call('HSET', c.key, 'l', c.moved) end
  write_doubts(c)
  return c
end

-- Write a counter with the request's own reservation, if it has one.
local function write(c)
  local own = c.own and written(c.own)
  local next_ms = format('%.0f', c.next_ms or now_ms + c.life)
  if c.period > 0 then
    local log = pack('>I8', c.total) .. c.runs
    if own then call('HSET', c.key, 'l', log, 'd', next_ms, mine, own) else call('HSET', c.key, 'l', log, 'd', next_ms) end
  else
    local total, held = format('%.0f', c.total), format('%.0f', c.held)
    if own then
      call('HSET', c.key, 'u', total, 'h', held, 'd', next_ms, mine, own)
    else
      call('HSET', c.key, 'u', total, 'h', held, 'd', next_ms)
    end
    write_doubts(c)
  end
end

-- Time in ms at which an amount fits again into a sliding window, or more does; 0 where nothing is counted.
local function reset_ms(c, most, amount)
  local left, ending, n = c.total, 0, 0
  for at = 1, #c.runs, RUN do
    ending, n = read('>I8I8', c.runs, at)
    left = left - n
    if left + amount <= most then break end
  end
  return ending > 0 and ceil((ending + c.period) / 1000) or 0
end

-- A counter's raise, if it hasn't ended.
local function raised(text)
  local more, until_ms = match(text or '', '^(%d+) (%d+)$')
  more, until_ms = whole(more), whole(until_ms)
  return more and until_ms and now_ms < until_ms and more or 0
end

-- Whole numbers as one text, each in 64 bits, big-endian.
local function answered(numbers)
  return pack('>' .. string.rep('I8', #numbers), unpack(numbers))
end
