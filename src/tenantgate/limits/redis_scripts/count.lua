-- Count one request for all limits, or for none where one is reached: as tenantgate/limits/core/window.py, which says how
-- a window is written.
-- KEYS: a window for each limit. ARGV: for each limit most requests, period in µs, width of a run in µs
-- Gives 1 if the request was counted, else 0; then for each limit requests left, and µs until there are more.
-- The work doesn't grow with the window: the sum at its beginning stands for the runs that nothing is done with.
local SUM, RUN = 4, 12
local call, pack, unpack, sub = redis.call, struct.pack, struct.unpack, string.sub
local clock = call('TIME') -- the gateways' clocks may differ
local now = clock[1] * 1000000 + clock[2]

local function write(key, total, runs, period)
  call('SET', key, pack('>I4', total) .. runs, 'PX', math.ceil(period / 1000))
end

-- After a step back of the clock requests are in the future: they count as made now. That is written down for a refused
-- request, too, or it would be now for as long as the step.
local function moved(key, text, period)
  local runs = {}
  for at = SUM + 1, #text, RUN do
    local ending, n = unpack('>I8I4', text, at)
    runs[#runs + 1] = pack('>I8I4', math.min(ending, now), n)
  end
  write(key, (unpack('>I4', text)), table.concat(runs), period)
  return sub(text, 1, SUM) .. table.concat(runs)
end

local totals, logs, counted = {}, {}, 1
for i, key in ipairs(KEYS) do
  local text, total, runs = call('GET', key), 0, ''
  if text and #text > SUM and (#text - SUM) % RUN == 0 then
    local period, at = tonumber(ARGV[3 * i - 1]), SUM + 1
    if (unpack('>I8', text, #text - RUN + 1)) > now then text = moved(key, text, period) end
    total = unpack('>I4', text)
    while at <= #text do
      local ending, n = unpack('>I8I4', text, at)
      if ending > now - period then break end
      total, at = total - n, at + RUN
    end
    runs = sub(text, at)
    if runs == '' then total = 0 end -- whatever the sum was, if it wasn't ours
  end
  if total >= tonumber(ARGV[3 * i - 2]) then counted = 0 end
  totals[i], logs[i] = total, runs
end

local answer = {counted}
for i, key in ipairs(KEYS) do
  local most, period, width = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local total, runs = totals[i], logs[i]
  if counted == 1 then
    local requests = 1
    if runs ~= '' then
      local ending, before = unpack('>I8I4', runs, #runs - RUN + 1)
      if math.floor(ending / width) == math.floor(now / width) then
        runs, requests = sub(runs, 1, -RUN - 1), before + 1
      end
    end
    total, runs = total + 1, runs .. pack('>I8I4', now, requests)
    write(key, total, runs, period)
  end
  local left, wait = total, 0
  for at = 1, #runs, RUN do
    local ending, n = unpack('>I8I4', runs, at)
    left = left - n
    if left < most then
      wait = ending + period - now
      break
    end
  end
  answer[2 * i], answer[2 * i + 1] = math.max(0, most - total), wait
end
return answer
