-- One message and one answer for a phase of the plugin `tenantgate`. By itself Kong sends only that a phase has begun,
-- and the plugin asks for each value and tells each value by a message of its own. Here what the engine reads goes with
-- the first message, and what it tells comes with the last answer (tenantgate/kong/ahead.py has the format). Any other
-- call goes as ever, and so does everything where Kong's plugin servers aren't as this expects them.
-- For each log phase Kong also makes its whole log record, and copies of all headers; here only where the engine reads them.
local cjson = require "kong.tools.cjson"
local record_json = require "cjson.safe" -- what Kong's plugin servers have

local ENGINE = "tenantgate"
local READ = {access = "tenantgate_request", log = "tenantgate_log"}
-- A kept connection may be one of a server that has just ended. What couldn't be written nobody has read; and an
-- instance may be started twice.
local START = {["plugin.StartInstance"] = true}
local GONE = {closed = true, ["connection reset by peer"] = true}
local MOST = 256 * 1024 -- bytes of a body; what is larger waits in Kong until the engine has a thread for it

local LOG = READ.log

local M = {}

local installed

local function packed(value)
  local body = type(value) == "table" and value.body
  if type(body) ~= "string" then
    local text = cjson.encode(value)
    return text and {text}
  end
  if #body > MOST then
    return nil
  end
  value.body = nil
  local text = cjson.encode(value)
  value.body = body
  return text and {text, body}
end

local function unpacked(parts)
  local value = cjson.decode_with_array_mt(parts[1])
  if type(value) == "table" and parts[2] then
    value.body = parts[2]
  end
  return value
end

-- What the engine's log phase gets in one message; nil where it may ask for more.
local function log_phase()
  local shared = kong.ctx.shared
  local decision = shared.tenantgate_decision
  local reads = type(decision) == "table" and decision.log_reads
  local parts = (reads == "end" or reads == "record") and shared[LOG] and packed(shared[LOG])
  local record = parts and reads == "record" and record_json.encode(kong.log.serialize()) or nil
  if not parts or reads == "record" and not record then
    return nil
  end
  return {parts = parts, record = record, plugin_id = kong.plugin.get_id()}
end

local function in_timer(premature, rpc, conf, made)
  if premature then
    return
  end
  ngx.ctx.plugin_id, ngx.ctx.tenantgate_log_phase = made.plugin_id, made
  rpc:handle_event(conf, "log")
end

local function install()
  local known, plugin = require("kong.runloop.plugin_servers").load_plugin(ENGINE)
  local rpc, api = known and plugin.rpc, known and plugin.exposed_api
  if not (rpc and rpc.call and api and api["kong.ctx.shared.get"] and api["kong.ctx.shared.set"]) then
    return
  end
  local call, get, set = rpc.call, api["kong.ctx.shared.get"], api["kong.ctx.shared.set"]
  function rpc:call(method, argument, ...)
    if method == "plugin.HandleEvent" then
      local log = ngx.ctx.tenantgate_log_phase
      if log then
        argument.Shared, argument.Record, argument.Alone = {[LOG] = log.parts}, log.record, true
      else
        local name = READ[argument.EventName]
        local value = name and get(name)
        local parts = value and packed(value)
        argument.Shared, argument.Takes = parts and {[name] = parts}, true
      end
    end
    local answer, err = call(self, method, argument, ...)
    if not answer and (err == "broken pipe" or START[method] and GONE[err]) then
      answer, err = call(self, method, argument, ...)
    end
    if type(answer) == "table" and type(answer.Shared) == "table" then
      for name, parts in pairs(answer.Shared) do
        set(name, unpacked(parts))
      end
    end
    return answer, err
  end
  local log, timer_at = plugin.log, _G.native_timer_at or ngx.timer.at -- the timer as Kong's plugin servers have it
  function plugin:log(conf)
    local made = log and log_phase()
    if not made then
      return log(self, conf)
    end
    timer_at(0, in_timer, rpc, conf, made)
  end
end

-- From now on, in this worker; a second time does nothing.
function M.install()
  if not installed then
    installed = true
    pcall(install)
  end
end

return M
