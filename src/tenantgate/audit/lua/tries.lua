-- custom_fields_by_lua: the tries of a request, as tenantgate-request has gathered them, also where the engine is dead.
local log, out = kong.ctx.shared.tenantgate_log, {}
for i, t in ipairs(type(log) == "table" and log.tries or {}) do
  out[i] = {target = t.target, outcome = t.outcome, status = t.status, ms = t.ms, address = t.address, host = t.host}
end
if out[1] then
  return out
end
