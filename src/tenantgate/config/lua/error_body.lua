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
      -- By status: message, type, code.
      local t = ({[400] = {'The request is not valid.', 'invalid_request_error', 'invalid_request'},
        [401] = {'The API key is missing, or not known here. Send Authorization: Bearer KEY.', 'invalid_request_error', 'invalid_api_key'},
        [403] = {'This API key may not use this route.', 'invalid_request_error', 'permission_denied'},
        [404] = {'There is no such route. Check the base URL, and that the request is a POST.', 'invalid_request_error', 'unknown_url'},
        [405] = {'This method is not allowed here.', 'invalid_request_error', 'method_not_allowed'},
        [408] = {'The request took too long to arrive.', 'invalid_request_error', 'request_timeout'},
        [413] = {'The request is larger than this gateway takes.', 'invalid_request_error', 'request_too_large'},
        [429] = {'Rate limit reached. Try again later.', 'requests', 'rate_limit_exceeded'},
        [500] = {'The gateway failed at this request.', 'server_error', 'internal_error'},
        [502] = {'The provider could not be reached, or its answer was not valid.', 'server_error', 'bad_gateway'},
        [503] = {'The provider can not be reached right now. Try again later.', 'server_error', 'service_unavailable'},
        [504] = {'The provider took too long to answer.', 'server_error', 'gateway_timeout'}})[ngx.status] or
        {'The request failed.', 'invalid_request_error', 'error'}
      b = '{"error":{"message":' .. (b:match('^{"error":{"message":(".*")}}$') or '"' .. t[1] .. '"') ..
        ',"type":"' .. t[2] .. '","param":null,"code":"' .. t[3] .. '"}}'
    end
    ngx.arg[1] = b
  end
end
