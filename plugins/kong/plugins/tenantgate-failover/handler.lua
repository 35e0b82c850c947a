-- Sends requests that may fail over, or that an egress policy binds, through the hop (hop.lua), one try after another.
-- After ai-proxy (770), whose choice of upstream it takes over. A model with one target and without a policy isn't
-- touched. Where the hop or the shared memory is missing, the request is refused; it never leaves by another way.
local ai_ctx = require "kong.llm.plugin.ctx"
local balancer = require "ngx.balancer"
local cjson = require "cjson.safe"
local choice = require "kong.plugins.tenantgate-failover.choice"
local order = require "kong.plugins.tenantgate-failover.order"
local outgoing = require "kong.plugins.tenantgate-failover.outgoing"
local retarget = require "kong.plugins.tenantgate-failover.retarget"
local tries = require "kong.plugins.tenantgate-failover.tries"

local HOST, HEADER = "127.0.0.1", "X-Tenantgate-Order"
local BALANCE = "ai-proxy-advanced-balance"
local SLACK_MS = 5000 -- the hop's own deadline comes first

-- As tenantgate.llm.errors words them.
local UNAVAILABLE = '{"error":{"message":"The gateway could not process this request. Please try again.",' ..
  '"type":"server_error","param":null,"code":"tenantgate_unavailable"}}'
local STREAM_ERROR = 'data: {"error":{"message":"The provider broke off this answer. It is not complete.",' ..
  '"type":"server_error","param":null,"code":"bad_gateway"}}\n\n'
local JSON = {["Content-Type"] = "application/json"}

local gateways = setmetatable({}, {__mode = "k"}) -- egress lists as JSON, by configuration

local function list_text(list)
  return #list > 0 and cjson.encode(list) or "[]"
end

-- The lists that bind a request, as JSON.
local function egress_text(conf, decision)
  local lists = {}
  if conf.egress_allow then
    local text = gateways[conf]
    if not text then
      text = list_text(conf.egress_allow)
      gateways[conf] = text
    end
    lists[1] = text
  end
  if type(decision.egress) == "table" then
    lists[#lists + 1] = list_text(decision.egress)
  end
  return "[" .. table.concat(lists, ",") .. "]"
end

local function limits_of(routing, balancer_data)
  local read_ms = balancer_data.read_timeout
  return {
    connect_ms = routing.connect_ms or balancer_data.connect_timeout,
    ttft_ms = routing.ttft_ms or read_ms,
    streaming_total_ms = routing.streaming_total_ms or 3600000,
    non_streaming_total_ms = routing.non_streaming_total_ms or read_ms,
    idle_ms = read_ms,
  }
end

-- Gives the hop its order, in the request's header.
local function send(plan, asked)
  local made = order.made(plan, asked)
  ngx.req.set_header(HEADER, cjson.encode(made))
end

-- Called by the balancer before each further try. Without a next one Kong ends the request with 503; but then the hop
-- hasn't asked for one, so something is wrong with the hop itself.
local function next_try(plan)
  local last = tries.get(plan.key, plan.number)
  if not last then
    kong.log.err("nothing is known of the last try: is the egress server running?")
    return nil
  end
  while true do
    local number = choice.next(plan.targets, plan.tried, plan.current, last.outcome)
    if not number or plan.number > plan.retries then
      return nil
    end
    plan.tried[number] = true
    local target = plan.targets[number]
    local asked, problem = retarget.asked(target.conf, plan.body, plan.base)
    if asked then
      plan.current, plan.number = number, plan.number + 1
      plan.order[plan.number] = target.id
      retarget.apply(asked)
      asked.method, asked.headers = plan.method, retarget.names(asked.headers)
      kong.ctx.shared.tenantgate_provider = target.provider
      send(plan, asked)
      balancer.recreate_request()
      return true
    end
    kong.log.err("a target is left out: ", problem)
  end
end

local Failover = {PRIORITY = 769, VERSION = "0.1.0"}

function Failover:access(conf)
  local ctx = ngx.ctx
  local route = ctx.tenantgate_route
  if not route then
    return
  end
  local decision = route.decision
  local routing = type(decision.routing) == "table" and decision.routing or nil
  if not routing and not conf.egress_allow and decision.egress == nil then
    return
  end
  local token = tries.token()
  if not token then
    kong.log.err("no shared memory `tenantgate_tries`: is tenantgate-egress.conf included?")
    return kong.response.exit(503, UNAVAILABLE, JSON)
  end
  routing = routing or {}
  local data, var = ctx.balancer_data, ngx.var
  local headers = retarget.headers()
  local stream = ai_ctx.get_namespaced_ctx("_global", "stream_mode") == true
  local limits = limits_of(routing, data)
  local longest_s = order.longest_s(limits, stream)
  ngx.update_time()
  local plan = {
    token = token, key = var.kong_request_id, egress = egress_text(conf, decision), stream = stream,
    deadline = ngx.now() + longest_s, limits = limits,
    targets = route.targets, tried = {[1] = true}, current = 1, number = 1, order = {route.targets[1].id},
    criteria = routing.failover_criteria or {},
    retries = math.min(routing.retries or 0, #route.targets - 1),
    body = route.body, base = route.headers, method = ngx.req.get_method(), shown = decision.routing ~= nil,
  }
  local args = var.args or ""
  send(plan, {
    method = plan.method, scheme = var.upstream_scheme, host = data.host, port = data.port,
    path = var.upstream_uri .. (args ~= "" and "?" .. args or ""), headers = retarget.names(headers),
  })
  ctx.tenantgate_plan = plan
  kong.service.request.set_scheme("http")
  kong.service.request.set_path("/")
  kong.service.request.set_raw_query("")
  kong.service.set_target(HOST, conf.port)
  local longest_ms = math.ceil(longest_s * 1000) + SLACK_MS
  kong.service.set_timeouts(1000, longest_ms, longest_ms)
  kong.service.set_retries(plan.retries)
  if plan.retries > 0 then
    -- nginx sends a POST to a second server only where all services' POSTs may be sent again.
    ngx.req.set_method(ngx.HTTP_PUT)
  end
  kong.service.set_target_retry_callback(function()
    return next_try(plan)
  end)
end

function Failover:header_filter()
  local plan = ngx.ctx.tenantgate_plan
  if not plan then
    return
  end
  if plan.retries > 0 then
    ngx.req.set_method(ngx["HTTP_" .. plan.method])
  end
  local last = tries.get(plan.key, plan.number)
  if not last or not last.reply_status then
    -- An answer of nginx or Kong, not of the hop.
    kong.response.set_status(503)
    return
  end
  plan.answered = true
  if last.reply_status ~= kong.response.get_status() then
    kong.response.set_status(last.reply_status)
  end
  if plan.shown then
    kong.response.set_header("X-Tenantgate-Target", plan.order[plan.number])
    kong.response.set_header("X-Tenantgate-Tries", tostring(plan.number))
  end
end

-- A stream that the provider broke off ends with an error: what was sent isn't the whole answer.
function Failover:body_filter()
  local plan = ngx.ctx.tenantgate_plan
  if not plan or not plan.answered or not plan.stream or not ngx.arg[2] then
    return
  end
  local last = tries.get(plan.key, plan.number)
  if not last or not last.ended then
    kong.ctx.shared.tenantgate_stream_end = nil
    ngx.arg[1] = STREAM_ERROR
  end
end

return Failover
