-- post-function, header_filter: an answer of the gateway's own that is an error. Its body is error_body.lua's.
if kong.response.get_source() ~= "service" and kong.response.get_status() >= 400 and
  not (kong.response.get_header("Content-Type") or ""):find("text/event-stream", 1, true) then
  kong.ctx.shared.tenantgate_error = {}
  kong.response.set_header("Content-Type", "application/json; charset=utf-8")
  kong.response.clear_header("Content-Length")
end
