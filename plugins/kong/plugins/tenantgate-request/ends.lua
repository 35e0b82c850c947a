-- Ends of requests until the engine has settled them, since it may die first: those that it decided about, and those
-- without a decision. A later engine gets them again, and to settle one twice does nothing. In memory that all workers
-- share, and without anything of what was asked and answered: ids, counters, usage, outcomes.
local cjson = require "cjson.safe"

local DICT = "tenantgate_tries"
local END, DROPPED = "end:", "ends:dropped"
local KEPT_S = 1500 -- for less long than the ledger knows which requests are settled
local AGAIN_S = 30 -- an engine that lives has settled by then, unless its Redis is gone
local MAX_TAKEN, MAX_PASSED = 20, 100

-- A queue of ids in the order in which they are due, and how many it may have at most.
local DECIDED = {name = "ends:decided:", most = 5000, wait_s = AGAIN_S}
local ASKED = {name = "ends:asked:", most = 5000, wait_s = 0}
local REFUSED = {name = "ends:refused:", most = 1000, wait_s = 0} -- hold something if the engine has just died

local M = {}

local function count_dropped(dict)
  dict:incr(DROPPED, 1, 0)
end

local function append(dict, queue, id, wait_s)
  local number = dict:incr(queue.name .. "last", 1, 0)
  local first = number and dict:get(queue.name .. "first") or 0
  return number and number - first <= queue.most
    and dict:safe_set(queue.name .. number, string.format("%.3f %s", ngx.now() + wait_s, id), KEPT_S)
end

local function short(tries)
  local out = {}
  for i, try in ipairs(tries or {}) do
    out[i] = {target = try.target, outcome = try.outcome, status = try.status, ms = try.ms}
  end
  return out[1] and out or nil
end

local function put(queue, log)
  local dict, id = ngx.shared[DICT], log.request.id
  if not dict or not id then
    return
  end
  local state = log.state
  local text = cjson.encode({
    request = {tenant = log.request.tenant, credential = log.request.credential, id = id},
    state = state and {model = state.model, limits = state.limits},
    source = log.source, status = log.status, provider_status = log.provider_status, sent = log.sent,
    decided = log.decided, recalled = log.recalled, body_size = log.body_size, at = log.at, usage = log.usage,
    tries = short(log.tries),
  })
  if not text or not dict:safe_set(END .. id, text, KEPT_S) then
    count_dropped(dict)
  elseif not append(dict, queue, id, queue.wait_s) then
    dict:delete(END .. id)
    count_dropped(dict)
  end
end

-- One that the engine gets now. Nothing is kept of a request that holds nothing.
function M.keep_decided(log)
  if type(log.state) == "table" and type(log.state.limits) == "table" then
    put(DECIDED, log)
  end
end

-- One without a decision, which a provider may have got, or Kong has refused.
function M.keep_undecided(log)
  put(log.recalled and ASKED or REFUSED, log)
end

-- The engine has settled these.
function M.forget(ids)
  local dict = ngx.shared[DICT]
  for _, id in ipairs(dict and type(ids) == "table" and ids or {}) do
    dict:delete(END .. id)
  end
end

local function take(dict, queue, out)
  for _ = 1, MAX_PASSED do
    if #out >= MAX_TAKEN then
      return
    end
    local first, last = dict:get(queue.name .. "first") or 0, dict:get(queue.name .. "last") or 0
    if first >= last then
      return
    end
    local due, id = (dict:get(queue.name .. first + 1) or ""):match("^(%S+) (.+)$")
    local text = id and dict:get(END .. id)
    if text and tonumber(due) > ngx.now() then
      return
    end
    local number = dict:incr(queue.name .. "first", 1, 0)
    if number ~= first + 1 then -- another worker has it; this one's is found by its own name
      due, id = (dict:get(queue.name .. number) or ""):match("^(%S+) (.+)$")
      text = id and dict:get(END .. id)
    end
    dict:delete(queue.name .. number)
    if text then
      out[#out + 1] = cjson.decode(text)
      if not append(dict, queue, id, AGAIN_S) then
        dict:delete(END .. id)
        count_dropped(dict)
      end
    end
  end
end

-- Some that are due, for an engine that lives; nil where there are none.
function M.take()
  local dict, out = ngx.shared[DICT], {}
  if not dict then
    return nil
  end
  for _, queue in ipairs({ASKED, REFUSED, DECIDED}) do
    take(dict, queue, out)
  end
  return out[1] and out or nil
end

-- How many were dropped since the last call; nil where none were.
function M.dropped()
  local dict = ngx.shared[DICT]
  local count = dict and dict:get(DROPPED)
  if count and count > 0 then
    dict:incr(DROPPED, -count)
    return count
  end
  return nil
end

return M
