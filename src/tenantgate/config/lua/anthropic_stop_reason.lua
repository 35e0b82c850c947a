-- pre-function, body_filter. Kong's Anthropic driver drops the reason, so this reads the chunks before the driver.
local c = ngx.arg[1];
if type(c) == "string" then
  for r in c:gmatch([["stop_reason"%s*:%s*"([%w_]+)"]]) do
    kong.ctx.shared.tenantgate_finish_reason = r
  end
end
