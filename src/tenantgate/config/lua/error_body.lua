-- post-function, body_filter, beside error_head.lua: errors that Kong itself answers with, as OpenAI's API would word
-- them, with a code. Kong's plugins answer in shapes of their own, by the client's Accept; of ai-proxy's the message
-- is kept.
local e = kong.ctx.shared.tenantgate_error
if e then
  e[#e + 1] = ngx.arg[1]
  if not ngx.arg[2] then
    ngx.arg[1] = ""
  else
    local b = table.concat(e)
    kong.ctx.shared.tenantgate_error = nil
    if not b:find('"code":', 1, true) then
      -- Message, type and code, from tenantgate.llm.errors.
      local t = ({BY_STATUS})[ngx.status] or OTHER_STATUS
      b = '{"error":{"message":' .. (b:match('^{"error":{"message":(".*")}}$') or '"' .. t[1] .. '"') ..
        ',"type":"' .. t[2] .. '","param":null,"code":"' .. t[3] .. '"}}'
    end
    ngx.arg[1] = b
  end
end
