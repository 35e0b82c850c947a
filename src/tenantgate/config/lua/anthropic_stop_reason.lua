-- pre-function, body_filter. Kong's Anthropic driver drops the reason, so this reads the chunks before the driver. Where
-- routes are shared, tenantgate-target names the provider.
local c, p = ngx.arg[1], kong.ctx.shared.tenantgate_provider
if type(c) == "string" and (p == nil or p == "anthropic") then
  for r in c:gmatch([["stop_reason"%s*:%s*"([%w_]+)"]]) do
    kong.ctx.shared.tenantgate_finish_reason = r
  end
end
