-- post-function, header_filter: tells MCP clients without a valid key where to get a token (RFC 9728, section 5.1).
if kong.response.get_status() == 401 and kong.response.get_source() ~= "service" then
  local h = kong.response.get_header("WWW-Authenticate")
  if type(h) ~= "string" or h:sub(1, 7) ~= "Bearer " then
    local n = kong.request.get_path():match("/v1/mcp/([%w_-]+)$")
    kong.response.set_header("WWW-Authenticate", 'Bearer resource_metadata="URL' .. (n and "/" .. n or "") .. '"')
  end
end
