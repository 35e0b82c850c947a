-- The way of one request through the hop, seen from Kong's side: its plan, its tries, and what the client gets.
local ai_ctx = require "kong.llm.plugin.ctx"
local balancer = require "ngx.balancer"
local cjson = require "cjson.safe"
local choice = require "kong.plugins.tenantgate-failover.choice"
local lists = require "kong.plugins.tenantgate-failover.lists"
local order = require "kong.plugins.tenantgate-failover.order"
local retarget = require "kong.plugins.tenantgate-failover.retarget"
local tries = require "kong.plugins.tenantgate-failover.tries"

local HOST = "127.0.0.1"
local RETRY = 503 -- by which the hop asks for another try
local CONNECT_MS = 1000 -- to the hop
local SLACK_MS = 5000 -- the hop's own deadline comes first

-- As tenantgate.llm.errors words them.
local UNAVAILABLE = '{"error":{"message":"The gateway could not process this request. Please try again.",' ..
  '"type":"server_error","param":null,"code":"tenantgate_unavailable"}}'
local ALL_OUT = '{"error":{"message":"The provider can not be reached right now. Try again later.",' ..
  '"type":"server_error","param":null,"code":"service_unavailable"}}'
-- The blank line is for a stream whose `[DONE]` ai-proxy has sent, without an end of its line.
local STREAM_ERROR = '\n\ndata: {"error":{"message":"The provider broke off this answer. It is not complete.",' ..
  '"type":"server_error","param":null,"code":"bad_gateway"}}\n\n'
local JSON = {["Content-Type"] = "application/json"}

-- Statuses that say nothing against the request itself.
local FAILED = {[401] = true, [403] = true, [408] = true, [429] = true, [500] = true, [502] = true, [503] = true,
  [504] = true, [529] = true}

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
  plan.asked = asked
  ngx.req.set_header(order.HEADER, cjson.encode(order.made(plan, asked)))
end

-- Called by the balancer before each further try. Without a next one Kong ends the request with 503; but then the hop
-- hasn't asked for one, so something is wrong with the hop itself.
local function next_try(plan)
  local last = tries.get(plan.key, plan.number)
  if not last and not plan.sent_again then
    -- The order didn't reach the hop, as where nginx ends idle connections upon a reload. nginx counts that as a try.
    plan.sent_again = true
    plan.retries = math.max(plan.number - 1, plan.retries - 1)
    send(plan, plan.asked)
    balancer.recreate_request()
    return true
  end
  if not last or last.outcome == tries.UNKNOWN then
    kong.log.err("the hop said nothing of the last try: is the egress server running?")
    return nil
  end
  while true do
    local number = choice.next(plan.targets, plan.tried, plan.current, last.class or last.outcome)
    if not number or plan.number > plan.retries then
      return nil
    end
    plan.tried[number] = true
    local target = plan.targets[number]
    local asked, problem = retarget.asked(target, plan.body, plan.base)
    if asked then
      plan.current, plan.number = number, plan.number + 1
      plan.order[plan.number] = target.id
      retarget.apply(asked)
      kong.ctx.shared.tenantgate_provider = target.provider
      send(plan, {
        method = plan.method, scheme = asked.scheme, host = asked.host, port = asked.port, path = asked.path,
        headers = retarget.names(asked.headers),
      })
      balancer.recreate_request()
      return true
    end
    kong.log.err("a target is left out: ", problem)
  end
end

local M = {}

-- access: points Kong at the hop. `decision`: the engine's, or the last one that holds; `route`: what tenantgate-target
-- has prepared: targets, body, headers.
function M.begin(conf, decision, route)
  local token = tries.token()
  if not token then
    kong.log.err("no shared memory `tenantgate_tries`: does kong.conf have nginx_http_lua_shared_dict?")
    return kong.response.exit(503, UNAVAILABLE, JSON)
  end
  local ctx, var = ngx.ctx, ngx.var
  local routing = type(decision.routing) == "table" and decision.routing or {}
  local data = ctx.balancer_data
  local stream = ai_ctx.get_namespaced_ctx("_global", "stream_mode") == true
  local limits = limits_of(routing, data)
  local longest_s = order.longest_s(limits, stream)
  ngx.update_time()
  local plan = {
    token = token, key = var.kong_request_id, egress = lists.text(conf, decision), stream = stream,
    json = route.targets[1].conf.route_type:find("^llm/") ~= nil,
    deadline = ngx.now() + longest_s, limits = limits,
    targets = route.targets, tried = {[1] = true}, current = 1, number = 1, order = {route.targets[1].id},
    criteria = routing.failover_criteria or {},
    retries = math.min(routing.retries or 0, #route.targets - 1),
    retry_after_s = tonumber(routing.retry_after_s),
    raw = decision.target.route_type == "preserve",
    body = route.body, base = route.headers, method = ngx.req.get_method(), shown = decision.routing ~= nil,
  }
  local args = var.args or ""
  send(plan, {
    method = plan.method, scheme = var.upstream_scheme, host = data.host, port = data.port,
    path = var.upstream_uri .. (args ~= "" and "?" .. args or ""),
    headers = retarget.names(retarget.headers()),
  })
  ctx.tenantgate_plan = plan
  kong.service.request.set_scheme("http")
  kong.service.request.set_path("/")
  kong.service.request.set_raw_query("")
  kong.service.set_target(HOST, conf.port)
  local longest_ms = math.ceil(longest_s * 1000) + SLACK_MS
  kong.service.set_timeouts(CONNECT_MS, longest_ms, longest_ms)
  kong.service.set_retries(plan.retries)
  if plan.retries > 0 then
    -- nginx sends no POST a second time, unless told so for all services. The hop knows the method by its order.
    ngx.req.set_method(ngx.HTTP_PUT)
  end
  kong.service.set_target_retry_callback(function()
    return next_try(plan)
  end)
end

-- header_filter
function M.head(plan)
  if plan.retries > 0 then
    ngx.req.set_method(ngx["HTTP_" .. plan.method])
  end
  local last = tries.get(plan.key, plan.number)
  if not last or not last.reply_status then
    -- An answer of nginx or Kong, not of the hop.
    return kong.response.set_status(503)
  end
  plan.answered = true
  if last.reply_status == RETRY then
    kong.response.set_status(RETRY) -- the hop had to call it something else; any other status may be ai-proxy's by now
  end
  if plan.stream and last.reply_status >= 400 then
    kong.response.set_header("Content-Type", "application/json; charset=utf-8") -- ai-proxy says it were a stream
  end
  if plan.retry_after_s and FAILED[last.reply_status] then
    -- All targets are left out, and the one that was tried all the same has failed.
    plan.refused = true
    kong.response.set_status(503)
    kong.response.clear_header("Content-Length")
    kong.response.clear_header("Content-Encoding")
    kong.response.set_header("Content-Type", "application/json")
    kong.response.set_header("Retry-After", tostring(math.ceil(plan.retry_after_s)))
  end
  if plan.shown then
    kong.response.set_header("X-Tenantgate-Target", plan.order[plan.number])
    kong.response.set_header("X-Tenantgate-Tries", tostring(plan.number))
  end
end

-- Whether a stream had its end in its own format, where that is read: a server behind the provider's proxy may have
-- died, and the proxy have ended the stream as if it were whole.
local function is_complete(shared)
  local reader, usage = shared.tenantgate_stream, shared.tenantgate_usage
  return type(reader) ~= "table" or reader.stream.finished or type(usage) == "table" and usage.complete
end

-- body_filter, of a refused request and at the end of a stream. One that the provider broke off ends with an error:
-- what was sent isn't the whole answer.
function M.body(plan)
  if plan.refused then
    ngx.arg[1] = ngx.arg[2] and ALL_OUT or nil
    return
  end
  local last = tries.get(plan.key, plan.number)
  if not last or not last.ended or not is_complete(kong.ctx.shared) then
    kong.ctx.shared.tenantgate_stream_end = nil
    if plan.raw then
      -- In a file or a form of its own no event tells the client; that the connection ends without an end does.
      error("the provider broke off its reply")
    end
    ngx.arg[1] = (ngx.arg[1] or "") .. STREAM_ERROR
  end
end

return M
