-- custom_fields_by_lua: all fields of the journal's line but one; the result is tenantgate.complete. One text, since Kong
-- compiles each one anew, in a sandbox of its own, at each request.
local shared, set = kong.ctx.shared, kong.log.set_serialize_value
-- What the client and the provider wrote. In its place our plugins' verdicts, which hold no text.
for _, name in ipairs({
  "request.headers", "request.querystring", "request.uri", "request.url", "upstream_uri", "response.headers"
}) do
  set(name, nil)
end
set("tenantgate.finish_reason", shared.tenantgate_finish_reason)
set("tenantgate.usage", shared.tenantgate_usage)
set("tenantgate.guardrails", shared.tenantgate_tenant_guardrails)
set("tenantgate.response_guardrails", shared.tenantgate_tenant_response_guardrails)
set("tenantgate.compression", shared.tenantgate_tenant_prompt_compressor)
set("tenantgate.routing", shared.tenantgate_routing)
set("tenantgate.limits", shared.tenantgate_limits)
set("tenantgate.route", shared.tenantgate_route)
set("tenantgate.end_user", shared.tenantgate_end_user)
set("tenantgate.operation", shared.tenantgate_operation)
set("tenantgate.mcp", shared.tenantgate_mcp)
set("tenantgate.policy", shared.tenantgate_audit_policy)
set("tenantgate.cache_status", kong.response.get_header("X-Cache-Status"))
set("tenantgate.cache_key", kong.response.get_header("X-Cache-Key"))
-- The request's id, if it has the form that Kong gives it (a Lua pattern has no counts). The client may send any text in
-- its place, which Kong puts there. only_headers.lua has taken it out of the request, where that went on to the provider.
local id = shared.tenantgate_correlation or kong.request.get_header("HEADER")
if type(id) ~= "string" or not (
  id:match("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$") or
  id:match("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x#%d+$")) then
  id = nil
end
set("correlation_id", id)
-- The client's trace (W3C Trace Context), if it has that form.
local trace = shared.tenantgate_traceparent or kong.request.get_header("traceparent")
if type(trace) == "string" and #trace == 55 and trace:match("^%x%x%-%x+%-%x+%-%x%x$") then
  set("tenantgate.traceparent", trace)
end
-- The tries, as tenantgate-request has gathered them, also where the engine is dead.
local log, tries = shared.tenantgate_log, {}
for i, t in ipairs(type(log) == "table" and log.tries or {}) do
  tries[i] = {}
  for _, name in ipairs({"target", "outcome", "status", "ms", "address", "host"}) do
    tries[i][name] = t[name]
  end
end
if tries[1] then
  set("tenantgate.tries", tries)
end
-- A caller of whom Kong has no consumer, since the engine has checked an access token.
if type(log) == "table" and type(log.request) == "table" and not kong.client.get_consumer() then
  set("tenantgate.tenant", log.request.tenant)
  set("tenantgate.key", log.request.credential)
end
-- Whether the answer was sent to its end. Who leaves in the middle of a stream has the 200 by then.
return ngx.var.request_completion == "OK"
