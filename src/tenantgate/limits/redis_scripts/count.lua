-- Count one request for all limits, or for none where one is reached: as tenantgate/limits/core/window.py, which says how
-- a window is written.
-- KEYS: a window for each limit. ARGV: for each limit most requests, period in µs, width of a run in µs
-- Gives 1 if the request was counted, else 0; then for each limit requests left, and µs until there are more.
-- The work doesn't grow with the window: the sum at its beginning stands for the runs that nothing is done with.
local SUM, RUN = 4, 12
local clock = redis.call('TIME') -- the gateways' clocks may differ
local now = clock[1] * 1000000 + clock[2]

local function run(runs, at)
  return struct.unpack('>I8I4', runs, at)
end

local function write(key, total, runs, period)
  redis.call('SET', key, struct.pack('>I4', total) .. runs, 'PX', math.ceil(period / 1000))
end

-- After a step back of the clock requests are in the future: they count as made now.
local function moved(runs)
  local out = {}
  for at = 1, #runs, RUN do
    local ending, n = run(runs, at)
    out[#out + 1] = struct.pack('>I8I4', math.min(ending, now), n)
  end
  return table.concat(out)
end

local windows, counted = {}, 1
for i, key in ipairs(KEYS) do
  local most, period = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
  local text, total, runs = redis.call('GET', key), 0, ''
  if text and #text > SUM and (#text - SUM) % RUN == 0 then
    total, runs = struct.unpack('>I4', text), string.sub(text, SUM + 1)
    if run(runs, #runs - RUN + 1) > now then
      runs = moved(runs)
      write(key, total, runs, period) -- also for a refused request, or it would be now for as long as the step
    end
  end
  local at = 1
  while at <= #runs do
    local ending, n = run(runs, at)
    if ending > now - period then break end
    total, at = total - n, at + RUN
  end
  if at > #runs then total = 0 end -- whatever the sum was, if it wasn't ours
  if total >= most then counted = 0 end
  windows[i] = {most = most, period = period, total = total, runs = string.sub(runs, at)}
end

local answer = {counted}
for i, window in ipairs(windows) do
  local runs, total = window.runs, window.total
  if counted == 1 then
    local width, n = tonumber(ARGV[3 * i]), 1
    if #runs > 0 then
      local ending, before = run(runs, #runs - RUN + 1)
      if math.floor(ending / width) == math.floor(now / width) then
        runs, n = string.sub(runs, 1, #runs - RUN), before + 1
      end
    end
    runs, total = runs .. struct.pack('>I8I4', now, n), total + 1
    write(KEYS[i], total, runs, window.period)
  end
  local left, wait = total, 0
  for at = 1, #runs, RUN do
    local ending, n = run(runs, at)
    left = left - n
    if left < window.most then
      wait = ending + window.period - now
      break
    end
  end
  answer[2 * i], answer[2 * i + 1] = math.max(0, window.most - total), wait
end
return answer
