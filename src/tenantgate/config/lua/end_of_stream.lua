-- pre-function, body_filter. At a stream's end ai-proxy goes through the events of the last chunk once more and logs
-- their text twice (its parse-sse-chunk keeps them when the last call comes without data). With a line end as the
-- last chunk there are none to repeat. The mark tells the cache that the logged text can be trusted. Not for Gemini,
-- whose streams are no events.
if ngx.arg[2] then
  kong.ctx.shared.tenantgate_stream_end = true
  if ngx.arg[1] == nil or ngx.arg[1] == "" then
    local t = kong.response.get_header("Content-Type")
    if t and t:find("text/event-stream", 1, true) == 1 then ngx.arg[1] = "\n" end
  end
end
