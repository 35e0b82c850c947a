-- post-function, body_filter. Kong's log of a stream has no finish reason, and a reply that was cut off must not be
-- stored, nor one that was more than its text: then the mark of end_of_stream.lua goes again. At priority -1000 this
-- sees the chunks that ai-proxy has normalised. Text of a reply can't pass for a field: there the quotes are escaped.
local c = ngx.arg[1];
if type(c) == "string" and c:find('"finish_reason"', 1, true) then
  for r in c:gmatch([["finish_reason"%s*:%s*"([%w_]+)"]]) do
    kong.ctx.shared.tenantgate_finish_reason = r
  end
end
if type(c) == "string" then
  -- Fields that a stream's answer may hold besides its text, which is all that Kong logs of an answer.
  for _, n in ipairs({"tool_calls", "function_call", "refusal", "reasoning", "reasoning_content", "audio", "annotations"}) do
    local k = '"' .. n .. '"%s*:%s*'
    -- Plainly first: to look for a pattern takes a hundred times as long, and most chunks have none of these names.
    if c:find('"' .. n .. '"', 1, true) and (c:find(k .. '"[^"]') or c:find(k .. '[%[{]%s*[^%s%]}]')) then
      kong.ctx.shared.tenantgate_stream_beside = true
    end
  end
end
if ngx.arg[2] and kong.ctx.shared.tenantgate_stream_beside then
  kong.ctx.shared.tenantgate_stream_end = nil
end
