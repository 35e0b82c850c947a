-- pre-function, access: OPTIONS of an MCP endpoint, before key-auth asks for a key. A preflight request is for cors,
-- where that is there; else a page gets no permission by this answer, and everybody learns which method there is.
local h = kong.request.get_header
if kong.request.get_method() == "OPTIONS" and not (CORS and h("Origin") and h("Access-Control-Request-Method")) then
  return kong.response.exit(204, nil, {Allow = "POST, OPTIONS"})
end
