-- pre-function, body_filter. At a stream's end ai-proxy goes through the events of the last chunk once more and logs
-- their text twice (its parse-sse-chunk keeps them when the last call comes without data). With a line end as the
-- last chunk there are none to repeat. The mark tells the cache that the logged text can be trusted. Only where the
-- provider itself sends events: Gemini's streams are a JSON array, which ai-proxy calls events, too. Kong's reader of
-- Amazon's event stream takes no line end, tenantgate-target's does.
if ngx.arg[2] then
  local t = kong.service.response.get_header("Content-Type") or ""
  if t:find("text/event-stream", 1, true) == 1 or
    kong.ctx.shared.tenantgate_stream and t:find("application/vnd.amazon.eventstream", 1, true) == 1 then
    kong.ctx.shared.tenantgate_stream_end = true
    if ngx.arg[1] == nil or ngx.arg[1] == "" then ngx.arg[1] = "\n" end
  end
end
