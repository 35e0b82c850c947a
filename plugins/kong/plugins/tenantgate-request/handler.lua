-- Gathers what the plugin `tenantgate` needs, so that it reads each phase by one call: the request in access, its
-- outcome in log. Plugins run by priority in log, too, so the outcome is there before `tenantgate` (799) reads it.
local ai_ctx = require "kong.llm.plugin.ctx"
local callers = require "kong.plugins.tenantgate-mcp.callers"
local ends = require "kong.plugins.tenantgate-request.ends"
local start = require "kong.plugins.tenantgate-request.start"
local trips = require "kong.plugins.tenantgate-request.trips"
local tries = require "kong.plugins.tenantgate-failover.tries"

local MAX_HEADERS = 1000 -- the largest number that kong.request.get_headers takes

local MAX_PASSED = 1024 * 1024 -- bytes of a reply that the engine gets of an operation besides chat

local function is_large(target)
  local body = target.route_type == "preserve" and ai_ctx.get_namespaced_ctx("_global", "response_body")
  return body and #body > MAX_PASSED
end

-- Whether a provider may have got the request: nginx's bytes of each try, which a reply that is held back has in a
-- request of its own.
local function is_sent()
  local sent = ngx.var.upstream_bytes_sent
  if sent then
    return sent:find("[1-9]") ~= nil
  end
  return kong.response.get_source() ~= "exit"
end

-- Whether a key that retires has come to its time, which a tag of its credential tells.
local function is_over(credential)
  for _, tag in ipairs(credential and credential.tags or {}) do
    local until_s = tonumber(tag:match("^tenantgate%-until%.(%d+)$"))
    if until_s and until_s <= ngx.time() then
      return true
    end
  end
  return false
end

local Request = {PRIORITY = 800, VERSION = "0.2.0"}

-- The caller of a request that the gateway sends itself: consumer, credential, tenant; nil for anybody else's.
local function own_caller()
  local caller = callers.take(kong.request.get_header(callers.HEADER))
  kong.service.request.clear_header(callers.HEADER)
  if type(caller) ~= "table" or type(caller.tenant) ~= "string" then
    return nil
  end
  local consumer, credential = caller.consumer, caller.credential
  credential = type(credential) == "string" and credential ~= "" and {id = credential} or nil
  if type(consumer) == "table" then
    kong.client.authenticate(consumer, credential)
  end
  return {custom_id = caller.tenant}, credential
end

-- Kong has a configuration: the first one of a worker, or another one.
function Request:configure()
  trips.install()
  start.soon()
end

-- A request without a tenant leaves no table, and `tenantgate-target` refuses it.
function Request:access(conf)
  local consumer, credential = kong.client.get_consumer(), kong.client.get_credential()
  local token
  if conf.caller then
    consumer, credential = own_caller()
    if not consumer then
      return kong.response.error(401, "Unauthorized")
    end
  elseif conf.token then -- the engine says of which tenant it is
    consumer, credential, token = nil, nil, kong.request.get_header("authorization")
    kong.service.request.clear_header("Authorization")
  elseif not consumer or not consumer.custom_id then
    return
  end
  if is_over(credential) then
    return kong.response.error(401, "Unauthorized", {["WWW-Authenticate"] = "Key"})
  end
  kong.ctx.shared.tenantgate_request = {
    tenant = consumer and consumer.custom_id,
    credential = credential and credential.id,
    by_token = conf.token or nil,
    token = token,
    id = ngx.var.kong_request_id,
    method = kong.request.get_method(),
    path = kong.request.get_path(),
    captures = kong.request.get_uri_captures().named,
    headers = kong.request.get_headers(MAX_HEADERS),
    body = kong.request.get_raw_body(0) or "", -- 0: from nginx's temporary file, too
    mcp = conf.mcp or nil,
  }
end

function Request:log()
  local shared = kong.ctx.shared
  local request, decision = shared.tenantgate_request, shared.tenantgate_decision
  if not request then
    return
  end
  local decided = type(decision) == "table"
  decision = decided and decision or {}
  -- What the engine answers never comes to `tenantgate-target`.
  for name, text in pairs(decision.shared or {}) do
    if shared[name] == nil and type(text) == "string" then
      shared[name] = text
    end
  end
  local caller = type(decision.caller) == "table" and decision.caller or request
  request.token = nil
  local target, plan = decision.target, ngx.ctx.tenantgate_plan
  -- ai-proxy logs payloads as its own configuration says, not as its target's. Vectors may be many.
  if type(target) ~= "table" or target.log_payloads ~= true or is_large(target) then
    kong.log.set_serialize_value("ai.proxy.payload", nil, {mode = "replace"})
  end
  if shared.tenantgate_count and kong.response.get_source() == "exit" and kong.service.response.get_status() == 200 then
    pcall(shared.tenantgate_count)
  end
  local log = {
    request = {
      tenant = caller.tenant,
      credential = caller.credential,
      id = request.id,
      body = decision.keep_body and request.body or nil,
    },
    state = decision.state,
    shared = decision.shared,
    finish_reason = shared.tenantgate_finish_reason,
    stream_end = shared.tenantgate_stream_end,
    usage = shared.tenantgate_usage,
    items = kong.response.get_status() == 200 and shared.tenantgate_items or nil,
    source = kong.response.get_source(),
    status = kong.response.get_status(),
    decided = decided,
    provider_status = kong.service.response.get_status(),
    sent = is_sent(),
    recalled = shared.tenantgate_recalled,
    body_size = #request.body,
    at = math.floor(ngx.now() * 1000),
    took_ms = math.max(0, math.floor(ngx.now() * 1000 - kong.request.get_start_time())),
    correlation = shared.tenantgate_correlation,
    traceparent = shared.tenantgate_traceparent or kong.request.get_header("traceparent"),
    tries = plan and tries.collect(plan, kong.response.get_status() == 499) or nil,
  }
  local refused = not decided and not request.mcp and not log.sent and log.source == "exit"
  if refused or not decided and log.recalled then
    ends.keep_undecided(log)
  elseif decided then
    ends.forget(decision.settled)
    ends.keep_decided(log)
    log.ends, log.ends_dropped = ends.take(), ends.dropped()
  end
  shared.tenantgate_log = log
end

return Request
