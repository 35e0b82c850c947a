-- custom_fields_by_lua: the client's trace (W3C Trace Context), if it has that form.
local v = kong.ctx.shared.tenantgate_traceparent or kong.request.get_header("traceparent")
if type(v) == "string" and #v == 55 and
  v:match("^%x%x%-%x+%-%x+%-%x%x$") then
  return v
end
