-- custom_fields_by_lua: a caller of whom Kong has no consumer, since the engine has checked an access token.
local log = kong.ctx.shared.tenantgate_log
if type(log) == "table" and type(log.request) == "table" and not kong.client.get_consumer() then
  return log.request.MEMBER
end
