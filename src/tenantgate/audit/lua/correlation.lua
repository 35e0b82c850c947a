-- custom_fields_by_lua: the request's id, if it has the form that Kong gives it (a Lua pattern has no counts). The
-- client may send any text in its place. only_headers.lua has taken it out of the request, where that went on to the
-- provider.
local v = kong.ctx.shared.tenantgate_correlation or kong.request.get_header("HEADER")
if type(v) == "string" and
  (v:match("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$") or
  v:match("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x#%d+$")) then
  return v
end
