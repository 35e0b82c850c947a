-- post-function, access: of the request's headers only those in KEEP reach the provider.
-- Log plugins and our own log phases still see the others, in Kong's log record. Without a limit on their number
-- (get_headers(0)): else the headers behind the hundredth would pass.
local h, keep, log, n = ngx.req.get_headers(0), {KEEP}, {}, 0
for k, v in pairs(h) do
  n = n + 1
  if n <= 100 then log[k] = v end
  if not keep[k] then kong.service.request.clear_header(k) end
end
for _, k in ipairs({"api-key", "authorization", "proxy-authorization", "x-api-key", "x-goog-api-key"}) do
  if log[k] then log[k] = "REDACTED" end
end
kong.log.set_serialize_value("request.headers", log)
kong.ctx.shared.tenantgate_correlation = h["CORRELATION"]
kong.ctx.shared.tenantgate_traceparent = h["traceparent"]
if not keep["accept"] then kong.service.request.set_header("Accept", "*/*") end
if not keep["user-agent"] then kong.service.request.set_header("User-Agent", "Tenantgate") end
