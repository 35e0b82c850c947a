-- What became of each try, for the other side: written by the hop, read by the plugin, in memory that all workers
-- share. The token there tells the plugin's orders from anybody else's.
local cjson = require "cjson.safe"

local DICT, TOKEN = "tenantgate_tries", "token"
local KEPT_S = 60 -- beyond a request's longest time

local M = {}

M.UNKNOWN = "unknown" -- the hop has begun, and hasn't come to an end: the provider may have done the work

-- The token of this Kong; nil where the shared memory isn't there, and then nothing may go out.
function M.token()
  local dict = ngx.shared[DICT]
  if not dict then
    return nil
  end
  local token = dict:get(TOKEN)
  if not token then
    local resty_random, resty_string = require "resty.random", require "resty.string"
    local bytes = resty_random.bytes(16, true)
    if not bytes then
      return nil
    end
    dict:safe_add(TOKEN, resty_string.to_hex(bytes)) -- another worker may have been first
    token = dict:get(TOKEN)
  end
  return token
end

local function key_of(key, number)
  return key .. ":" .. number
end

-- Note a try: {outcome, class (by which it is tried elsewhere, where that is another one), status, reply_status, ms, address, host, limits, ended}. Whether that was possible.
function M.note(key, number, try, longest_s)
  local dict = ngx.shared[DICT]
  return dict ~= nil and (dict:set(key_of(key, number), cjson.encode(try), longest_s + KEPT_S)) == true
end

-- A try; nil where nothing is known of it.
function M.get(key, number)
  local dict = ngx.shared[DICT]
  local text = dict and dict:get(key_of(key, number))
  return text and cjson.decode(text)
end

function M.forget(key, number)
  local dict = ngx.shared[DICT]
  if dict then
    dict:delete(key_of(key, number))
  end
end

-- All tries of a request, in their order, for the engine's log phase, and forgets them. `plan`: {key, number, order (the
-- targets' ids)}; `left`: whether the client left before the reply.
function M.collect(plan, left)
  local out = {}
  for number = 1, plan.number do
    local try = M.get(plan.key, number) or {outcome = M.UNKNOWN, status = 0, ms = 0, limits = {}}
    out[number] = {
      target = plan.order[number], outcome = left and try.outcome == M.UNKNOWN and "aborted" or try.outcome, status = try.status, ms = try.ms,
      address = try.address or "", host = try.host or "", limits = try.limits,
    }
    M.forget(plan.key, number)
  end
  return out
end

return M
