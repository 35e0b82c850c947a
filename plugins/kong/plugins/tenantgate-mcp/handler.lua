-- Sends calls of MCP tools to their APIs, as the plugin `tenantgate` has decided, through the hop (tenantgate-failover):
-- of the client nothing goes along but what the call says. What the client gets is written by the engine in its
-- response phase; a reply that it hasn't turned into a result never reaches the client.
local balancer = require "ngx.balancer"
local callers = require "kong.plugins.tenantgate-mcp.callers"
local cjson = require "cjson.safe"
local egress = require "kong.plugins.tenantgate-failover.egress"
local headers = require "kong.plugins.tenantgate-target.headers"
local lists = require "kong.plugins.tenantgate-failover.lists"
local order = require "kong.plugins.tenantgate-failover.order"
local outgoing = require "kong.plugins.tenantgate-failover.outgoing"
local secrets = require "kong.plugins.tenantgate-target.secrets"
local tries = require "kong.plugins.tenantgate-failover.tries"

local HOST = "127.0.0.1"
local CONNECT_MS = 1000 -- to the hop
local SLACK_MS = 5000 -- the hop's own deadline comes first
local API_CONNECT_MS = 5000
-- After these an idempotent call is tried again (`retries`).
local AGAIN = {"error", "timeout", "reset", "http_502", "http_503", "http_504"}

local UNAVAILABLE = '{"jsonrpc":"2.0","id":null,"error":{"code":-32603,' ..
  '"message":"The gateway could not process this request. Please try again."}}'
local NO_CREDENTIAL = '{"jsonrpc":"2.0","id":null,"error":{"code":-32603,' ..
  '"message":"The gateway can not read its credential for this API right now."}}'
local JSON = {["Content-Type"] = "application/json"}

local function escaped(text)
  return (text:gsub("[^%w._~-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- A body that is too large for one message of the engine has come in parts, as `name` with a number after it.
local function joined(name, parts, body)
  local shared, out = kong.ctx.shared, {}
  for i = 1, tonumber(parts) or 0 do
    out[i], shared[name .. i] = shared[name .. i], nil
  end
  return out[1] and table.concat(out) or body or ""
end

-- Where this Kong itself listens without TLS: host and port; nil where it doesn't.
local function own_address()
  local configuration = rawget(kong, "configuration")
  local listeners = configuration and configuration.proxy_listeners
  if not listeners then -- the embedded host has one, and doesn't list it
    return HOST, kong.request.get_port()
  end
  for _, listener in ipairs(listeners) do
    if not listener.ssl and not listener.proxy_protocol and listener.ip and listener.port then
      local ip = listener.ip
      return ip == "0.0.0.0" and HOST or ip == "[::]" and "[::1]" or ip, listener.port
    end
  end
end

-- Headers of the client that a request of the gateway to itself doesn't have: its keys, and what describes its own body.
local NOT_OWN = {
  ["accept"] = true, ["api-key"] = true, ["apikey"] = true, ["authorization"] = true, ["content-encoding"] = true,
  ["content-type"] = true, ["cookie"] = true, ["origin"] = true, ["x-api-key"] = true, ["x-goog-api-key"] = true,
  [callers.HEADER:lower()] = true,
}
local MAX_OWN = 1000

-- Else the chat would be nobody's: limits by end user, the cache's `partition_by` and the audit log read headers.
local function take_over(out)
  for name, value in pairs(kong.request.get_headers(MAX_OWN)) do
    name = name:lower()
    if not NOT_OWN[name] and not out[name] and not name:find("^x%-consumer%-") and not name:find("^x%-credential%-")
      and outgoing.is_sent(name) then
      out[name] = value
    end
  end
end

-- What a request of the gateway to itself has: its URL, the caller, and the ids by which its records are found.
local function own_request(conf, call, decision, out)
  local host, port = own_address()
  local prefix = kong.request.get_path():match("^(.*)/v1/mcp")
  local url = host and prefix and egress.url("http://" .. host .. ":" .. port .. prefix .. call.url)
  local request = kong.ctx.shared.tenantgate_request
  if not url or not request then
    return nil, "the tool of a model needs a listener without TLS and PROXY protocol in proxy_listen"
  end
  local consumer = kong.client.get_consumer()
  local known = type(decision.caller) == "table" and decision.caller or request
  out[callers.HEADER:lower()] = callers.put({
    tenant = known.tenant, credential = known.credential,
    consumer = consumer and {id = consumer.id, username = consumer.username, custom_id = consumer.custom_id},
  })
  if not out[callers.HEADER:lower()] then
    return nil, "no shared memory for a request of the gateway to itself"
  end
  take_over(out)
  local correlation = conf.correlation_header:lower()
  out[correlation] = kong.request.get_header(correlation)
  out.traceparent = kong.request.get_header("traceparent")
  return url
end

-- The headers for the API by name in lower case, and its URL; nil and a problem.
local function asked(conf, call, decision)
  local out, url, problem = {["accept-encoding"] = "gzip, identity", ["user-agent"] = "Tenantgate"}
  if call.own == true then
    url, problem = own_request(conf, call, decision, out)
  else
    url, problem = egress.url(call.url), "the address of a tool's API is none"
  end
  if not url then
    return nil, problem
  end
  for _, header in ipairs(type(call.headers) == "table" and call.headers or {}) do
    local value = header.value
    if header.reference == true then -- of the server's settings; never what a client's arguments say
      value = secrets.get(value)
    end
    if not headers.is_value(value) or not outgoing.is_sent(header.name) then
      return nil, "a header for a tool's API can't be had"
    end
    out[header.name:lower()] = value
  end
  local credential = call.credential
  if type(credential) == "table" then
    local value = secrets.get(credential.reference)
    if not headers.is_value(value) then
      return nil, "the credential of a tool's API can't be had"
    end
    value = (type(credential.prefix) == "string" and credential.prefix or "") .. value
    if credential.location == "query" then
      local pair = escaped(credential.name) .. "=" .. escaped(value)
      url.path = url.path .. (url.path:find("?", 1, true) and "&" or "?") .. pair
    else
      out[credential.name:lower()] = value
    end
  end
  return {headers = out, url = url}
end

-- Gives the hop its order, in the request's header.
local function send(plan)
  local made = order.made(plan, plan.asked)
  made.raw, made.most = true, plan.most
  ngx.req.set_header(order.HEADER, cjson.encode(made))
end

-- Called by the balancer before each further try.
local function next_try(plan)
  local last = tries.get(plan.key, plan.number)
  if not last and not plan.sent_again then
    -- The order didn't reach the hop, as where nginx ends idle connections upon a reload. nginx counts that as a try.
    plan.sent_again = true
    plan.retries = math.max(plan.number - 1, plan.retries - 1)
  elseif not last or last.outcome == tries.UNKNOWN or plan.number > plan.retries then
    return nil
  else
    plan.number = plan.number + 1
    plan.current, plan.tried[plan.number], plan.order[plan.number] = plan.number, true, plan.order[1]
  end
  send(plan)
  balancer.recreate_request()
  return true
end

-- The allowlist of the request to the hop is what the API gets: all other headers of the client are gone.
local function put_headers(values)
  local names = {}
  for name, value in pairs(values) do
    ngx.req.set_header(name, value)
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local Mcp = {PRIORITY = 771, VERSION = "0.2.0"}

function Mcp:access(conf)
  local shared = kong.ctx.shared
  local decision = shared.tenantgate_decision
  local call = type(decision) == "table" and decision.mcp
  if type(call) ~= "table" then
    kong.log.warn("no decision: refused")
    return kong.response.exit(503, UNAVAILABLE, JSON)
  end
  local token = tries.token()
  if not token then
    kong.log.err("no shared memory `tenantgate_tries`: does kong.conf have nginx_http_lua_shared_dict?")
    return kong.response.exit(503, UNAVAILABLE, JSON)
  end
  local to, problem = asked(conf, call, decision)
  if not to then
    kong.log.err(problem)
    return kong.response.exit(503, call.own == true and UNAVAILABLE or NO_CREDENTIAL, JSON)
  end
  local body = joined("tenantgate_body_", call.body_parts, call.body)
  headers.hide_caller(conf)
  for name, text in pairs(type(decision.shared) == "table" and decision.shared or {}) do
    shared[name] = text -- the trace that the message names, before that of the client's header
  end
  for _, name in ipairs({"accept", "content-type", "accept-encoding", "user-agent"}) do
    ngx.req.clear_header(name)
  end
  kong.service.request.set_raw_body(body)
  local names = put_headers(to.headers)
  for name, value in pairs(type(decision.headers) == "table" and decision.headers or {}) do
    kong.response.set_header(name, value)
  end
  ngx.update_time()
  local longest_ms, name = call.timeout_ms, call.name
  local retries = math.min(tonumber(call.retries) or 0, 5)
  local targets = {}
  for i = 1, retries + 1 do
    targets[i] = {provider = "mcp", name = name}
  end
  local plan = {
    token = token, key = ngx.var.kong_request_id, egress = call.own == true and "[]" or lists.text(conf, decision),
    stream = false, json = false,
    deadline = ngx.now() + longest_ms / 1000, most = call.most,
    limits = {connect_ms = API_CONNECT_MS, idle_ms = longest_ms, non_streaming_total_ms = longest_ms},
    targets = targets, tried = {[1] = true}, current = 1, number = 1, order = {name},
    criteria = AGAIN, retries = retries, method = ngx.req.get_method(),
    asked = {
      method = call.method, scheme = to.url.scheme, host = to.url.host, port = to.url.port, path = to.url.path,
      headers = names,
    },
  }
  ngx.ctx.tenantgate_plan = plan
  send(plan)
  kong.service.request.set_scheme("http")
  kong.service.request.set_path("/")
  kong.service.request.set_raw_query("")
  kong.service.set_target(HOST, conf.port)
  kong.service.set_timeouts(CONNECT_MS, longest_ms + SLACK_MS, longest_ms + SLACK_MS)
  kong.service.set_retries(retries)
  if retries > 0 then
    -- nginx sends no POST a second time, unless told so for all services. The hop knows the method by its order.
    ngx.req.set_method(ngx.HTTP_PUT)
  end
  kong.service.set_target_retry_callback(function()
    return next_try(plan)
  end)
end

function Mcp:header_filter()
  local plan = ngx.ctx.tenantgate_plan
  if not plan then
    return
  end
  if plan.retries > 0 then
    ngx.req.set_method(ngx["HTTP_" .. plan.method])
  end
  local shared = kong.ctx.shared
  local result, decision = shared.tenantgate_mcp_result, shared.tenantgate_decision
  local body, status = UNAVAILABLE, 503
  if type(result) == "table" then
    body, status = joined("tenantgate_mcp_result", result.parts, result.body), 200
    shared.tenantgate_mcp = result.note
    if type(decision.shared) == "table" then
      decision.shared.tenantgate_mcp = result.note -- for the engine's log phase
    end
  end
  kong.response.set_status(status)
  kong.response.clear_header("X-Tenantgate-Outcome")
  kong.response.clear_header("Content-Encoding")
  kong.response.set_header("Content-Type", "application/json")
  kong.response.set_header("Content-Length", #body)
  plan.body = body
end

function Mcp:body_filter()
  local plan = ngx.ctx.tenantgate_plan
  if plan and plan.body then
    ngx.arg[1] = ngx.arg[2] and plan.body or nil
  end
end

return Mcp
