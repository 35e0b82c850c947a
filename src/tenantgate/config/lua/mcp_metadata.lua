-- pre-function, access: the metadata of an MCP endpoint (RFC 9728), which says nothing of which endpoints there are.
local n = kong.request.get_path():match("/v1/mcp/([%w_-]+)$")
return kong.response.exit(200, '{"resource":"RESOURCE' .. (n and "/" .. n or "") .. '",MEMBERS}', {["Content-Type"] = "application/json", ["Access-Control-Allow-Origin"] = "*", ["Cache-Control"] = "public, max-age=300"})
