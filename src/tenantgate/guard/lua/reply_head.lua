-- post-function, header_filter, where a rule blocks or masks replies. The reply is held back until the response phase
-- is over, so its head isn't sent yet. kong.response.exit wouldn't do: ai-proxy's body_filter, which comes first, puts
-- the provider's reply back in its place.
if kong.response.get_source() == "service" and kong.ctx.shared.tenantgate_reply_guard ~= "pass" then
  kong.ctx.shared.tenantgate_reply_refused = true
  kong.response.set_status(503)
  kong.response.set_header("Content-Type", "application/json")
  kong.response.clear_header("Content-Encoding")
  kong.response.clear_header("Content-Length")
end
