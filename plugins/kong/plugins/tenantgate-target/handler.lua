-- Applies the decision of the plugin `tenantgate`: what goes upstream, and the target that ai-proxy, which comes next
-- (770), takes in place of its own configuration. Kong goes on without a plugin whose process is dead or late. Then the
-- last decision for the same request holds, if it allows that; else the request is refused.
local ai_ctx = require "kong.llm.plugin.ctx"
local cjson = require "kong.tools.cjson"
local google = require "kong.plugins.tenantgate-target.google"
local headers = require "kong.plugins.tenantgate-target.headers"
local last_decisions = require "kong.plugins.tenantgate-target.last_decisions"
local lists = require "kong.plugins.tenantgate-failover.lists"
local paths = require "kong.plugins.tenantgate-format.paths"
local secrets = require "kong.plugins.tenantgate-target.secrets"

require "kong.plugins.tenantgate-target.drivers"

local ENGINE = "tenantgate"
local MAX_HEADERS = 1000
local BALANCE = "ai-proxy-advanced-balance" -- where ai-proxy looks for a target (normalize-request.lua)

-- As tenantgate.llm.errors words them.
local function refusal(message, kind, code)
  return ('{"error":{"message":"%s","type":"%s","param":null,"code":"%s"}}'):format(message, kind, code)
end
local UNKNOWN = refusal("The API key is missing, or not known here. Send Authorization: Bearer KEY.",
  "invalid_request_error", "invalid_api_key")
local UNAVAILABLE = refusal("The gateway could not process this request. Please try again.",
  "server_error", "tenantgate_unavailable")
local NO_CREDENTIAL = refusal("The gateway can not read its credential for this provider right now.",
  "server_error", "credential_unavailable")
local JSON = {["Content-Type"] = "application/json"}

if not ai_ctx.has_namespace(BALANCE) then
  ai_ctx.get_namespaced_accesors(BALANCE, {selected_target = "table"})
end

-- Secrets of `auth` that aren't the value of a header, by ai-proxy's names.
local SECRETS = {"aws_access_key_id", "aws_secret_access_key", "gcp_service_account_json"}

local function header(name, value, bearer)
  if not headers.is_value(value) or not headers.is_value(name) then
    return nil
  end
  if bearer and not value:find("^Bearer ") then
    value = "Bearer " .. value
  end
  return {header_name = name, header_value = value, allow_override = false}
end

-- ai-proxy's `auth`, empty where there is no credential; nil where it can't be had. `way`: as google.lua has it.
local function resolved(auth, way)
  if type(auth) ~= "table" then
    return {}
  end
  if auth.header_value ~= nil then
    local value = secrets.get(auth.header_value)
    return value and header(auth.header_name, value, auth.bearer)
  end
  local found, given = {allow_override = false}, type(auth.secrets) == "table" and auth.secrets or {}
  for _, name in ipairs(SECRETS) do
    if given[name] ~= nil then
      found[name] = secrets.get(given[name])
      if not found[name] then
        return nil
      end
    end
  end
  if found.gcp_service_account_json then
    return header("Authorization", google.token(found.gcp_service_account_json, way), true)
  end
  return next(given) and found or {}
end

-- Kong holds a reply back where a plugin has a response phase. Without that of `tenantgate` streams arrive in pieces,
-- and it gets no event where ai-proxy holds a reply back (kong/runloop/plugins_iterator.lua, get_next_and_collect).
local function let_reply_through()
  local ctx = ngx.ctx
  local plugins = ctx.plugins and ctx.plugins.response
  if not plugins then
    return
  end
  local left = 0
  for i = 2, plugins[0], 2 do
    if plugins[i - 1].name ~= ENGINE then
      plugins[left + 1], plugins[left + 2] = plugins[i - 1], plugins[i]
      left = left + 2
    end
  end
  plugins[0] = left
  if left == 0 then
    ctx.buffered_proxying = nil
  end
end

local function table_of(value)
  return type(value) == "table" and value or {}
end

-- Another name for the model in a body that is too large for the engine to send back.
local function renamed(request, model)
  local body = cjson.decode_with_array_mt(request.body)
  if type(body) ~= "table" then
    return request.body
  end
  body.model = model
  return cjson.encode(body)
end

-- Most tokens of the reply in such a body.
local function limited(text, limit)
  local body = cjson.decode_with_array_mt(text)
  if type(body) ~= "table" then
    return text
  end
  for _, name in ipairs(table_of(limit.names)) do
    body[name] = limit.tokens
  end
  return cjson.encode(body)
end

-- The body for ai-proxy, which is put in place of the client's.
local function apply_body(request, decision, target)
  local body = request.body
  if type(decision.body) == "string" then
    body = decision.body
  elseif type(decision.upstream_model) == "string" then
    body = renamed(request, decision.upstream_model)
  end
  if type(decision.reply_limit) == "table" then
    body = limited(body, decision.reply_limit)
  end
  -- The engine has named the first target in the body, and that one may have been left out.
  if target ~= decision.target and target.name ~= decision.target.name then
    body = renamed({body = body}, target.name)
  end
  if body ~= request.body then
    kong.service.request.set_raw_body(body)
  end
  return body
end

local function set_headers(decision, is_wanted)
  for name, value in pairs(table_of(decision.headers)) do
    if headers.is_value(value) and type(name) == "string" and name:find("^[%w_-]+$") and is_wanted(name) then
      kong.response.set_header(name, value)
    end
  end
end

local function any()
  return true
end

local function is_limit(name)
  return name:lower():find("ratelimit", 1, true) ~= nil
end

-- Headers that only the gateway may say something by: records and reports, too, go by them.
local OURS = {["x-cache-status"] = true, ["x-cache-key"] = true}

local function is_ours(name)
  name = name:lower()
  return is_limit(name) or OURS[name] or name:find("^x%-tenantgate%-") ~= nil
end

-- What a provider says of its limits is about the gateway's account, which several tenants may share; the tenant's own
-- limits may have the same names. And what it says in the gateway's name, as nginx before a model does by X-Cache-Status,
-- isn't about the gateway.
local function hide_ours()
  for name in pairs(kong.response.get_headers(MAX_HEADERS)) do
    if is_ours(name) then
      kong.response.clear_header(name)
    end
  end
end

local function apply(decision)
  local shared = kong.ctx.shared
  set_headers(decision, any)
  for name, value in pairs(table_of(decision.shared)) do
    if type(value) == "string" then
      shared[name] = value
    end
  end
  if decision.reply_guard == false then
    let_reply_through()
  else
    -- Rules that only alert let a reply pass where the engine can't check it; of others its mark is asked for.
    shared.tenantgate_reply_held = decision.fail_closed ~= false
  end
end

-- ai-proxy's configuration for a target.
local function configuration(target, auth)
  return {
    route_type = target.route_type or "llm/v1/chat",
    llm_format = "openai",
    auth = auth,
    model = {provider = target.provider, name = target.name, options = table_of(target.options)},
    model_name_header = true,
    logging = {log_statistics = true, log_payloads = target.log_payloads == true},
    response_streaming = target.response_streaming or "allow",
    max_request_body_size = target.max_request_body_size or 8192, -- as in its schema
  }
end

-- Accept-Encoding to a target; nil: as ai-proxy has it. What ai-proxy has packed couldn't be translated.
local function encoding_of(target, translated)
  if translated then
    return headers.accept_encoding("identity")
  end
  return headers.is_value(target.accept_encoding) and headers.accept_encoding(target.accept_encoding) or nil
end

-- The targets whose credentials can be had, in their order, as tenantgate-failover takes them. The others are left
-- out. Credentials are resolved here, since nothing may wait for a vault between two tries.
local function usable(decision, translated, way)
  local found = {}
  for _, target in ipairs(decision.targets or {decision.target}) do
    local auth = resolved(target.auth, way)
    if auth then
      found[#found + 1] = {
        id = target.id or (target.provider .. "/" .. target.name),
        provider = target.provider, name = target.name, url = table_of(target.options).upstream_url,
        context_window = target.context_window, decided = target, conf = configuration(target, auth),
        accept_encoding = encoding_of(target, translated),
      }
    else
      kong.log.err("the credential of a provider can't be resolved, or can't stand in a header")
    end
  end
  return found
end

local function is_target(value)
  value = table_of(value)
  return type(value.provider) == "string" and type(value.name) == "string"
end

-- A body for the provider that is too large for one message of the engine has come in parts.
local function join_body(decision, shared)
  local parts = {}
  for i = 1, tonumber(decision.body_parts) or 0 do
    local name = "tenantgate_body_" .. i
    parts[i], shared[name] = shared[name], nil
  end
  if parts[1] then
    decision.body = table.concat(parts)
  end
end

local function is_decision(value)
  value = table_of(value)
  if value.targets ~= nil then
    for _, target in ipairs(table_of(value.targets)) do
      if not is_target(target) then
        return false
      end
    end
  end
  return is_target(value.target)
end

local Target = {PRIORITY = 771, VERSION = "0.2.0"}

function Target:access(conf)
  local shared = kong.ctx.shared
  local request, decision = shared.tenantgate_request, shared.tenantgate_decision
  if not request then
    return kong.response.exit(401, UNKNOWN, JSON)
  end
  if is_decision(decision) then
    join_body(decision, shared)
    last_decisions.remember(request, decision)
  else
    decision = last_decisions.recall(request)
    if not decision then
      kong.log.warn("no decision, and no last one that lets requests pass: refused")
      return kong.response.exit(503, UNAVAILABLE, JSON)
    end
    kong.log.warn("no decision: the last one holds")
    shared.tenantgate_recalled = decision.model_id
  end
  local way = {egress = lists.text(conf, decision), port = conf.egress_port}
  local targets = usable(decision, paths.format_of(request.path) ~= nil, way)
  local first = targets[1]
  if not first then
    return kong.response.exit(503, NO_CREDENTIAL, JSON)
  end
  local target = first.decided
  apply(decision)
  local body = apply_body(request, decision, target)
  headers.hide_caller(conf, decision.keep_headers)
  local clean = #targets > 1 and ngx.req.get_headers(0) or nil
  if first.accept_encoding then
    kong.service.request.set_header("Accept-Encoding", first.accept_encoding)
  end
  shared.tenantgate_provider = target.provider
  ai_ctx.set_namespaced_ctx(BALANCE, "selected_target", first.conf)
  -- For tenantgate-failover, which comes after ai-proxy: what each try begins with.
  ngx.ctx.tenantgate_route = {decision = decision, targets = targets, body = body, headers = clean}
end

-- The plugin cors, which comes before, finds no Origin any more in a request whose caller was hidden, and so tells the
-- browser nothing where it has several origins to choose from.
function Target:header_filter(conf)
  local source = kong.response.get_source()
  local ctx = ngx.ctx
  if source ~= "service" and ctx.KONG_PROXIED and not ctx.buffered_body and kong.response.get_status() < 400 then
    -- A reply that broke off while it was held back: Kong's error has the provider's status (kong/init.lua, response).
    kong.response.set_status(502)
  end
  if source == "service" then
    hide_ours()
    set_headers(table_of(kong.ctx.shared.tenantgate_decision), is_ours)
    local status = kong.response.get_status()
    if status >= 300 and status < 400 then
      -- A client would go there with its key: SDKs take Authorization out for another host, and no other header.
      kong.response.set_status(502)
      kong.response.clear_header("Location")
    end
    if kong.ctx.shared.tenantgate_stream then
      kong.response.clear_header("Content-Length") -- its chunks are written anew, and a client would wait for the rest
    end
  end
  local origin = kong.ctx.shared.tenantgate_origin
  for _, known in ipairs(origin and conf.origins or {}) do
    if known == origin or known == "*" then
      return kong.response.set_header("Access-Control-Allow-Origin", known)
    end
  end
end

return Target
