-- Headers of the request to the provider.

-- What HTTP, nginx and ai-proxy set or read themselves on the way upstream.
local NEEDED = {
  "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "transfer-encoding",
}
local SECRET = {
  ["api-key"] = true, apikey = true, authorization = true, ["proxy-authorization"] = true, ["x-api-key"] = true,
  ["x-goog-api-key"] = true,
}
local FORWARDED = {"for", "host", "path", "port", "prefix", "proto"}
local MAX_LOGGED = 100

local kept = setmetatable({}, {__mode = "k"}) -- names of headers by configuration

local function set_of(...)
  local names = {}
  for _, list in ipairs({...}) do
    for _, name in ipairs(list) do
      names[tostring(name):lower()] = true
    end
  end
  return names
end

-- `own`: a tenant's list, in place of the gateway's.
local function kept_names(conf, own)
  if type(own) == "table" then
    return set_of(NEEDED, own)
  end
  kept[conf] = kept[conf] or set_of(NEEDED, conf.keep_headers or {})
  return kept[conf]
end

local M = {}

-- Whether a value can stand in a header.
function M.is_value(value)
  return type(value) == "string" and not value:find("%c")
end

-- Of the client's headers only those that are kept reach the provider, and nothing of who called: Kong would tell its
-- address and path (X-Forwarded-*), which names the tenant, and its proxies (Via). ai-proxy adds the provider's own.
-- `own`: names of headers that are kept in place of the gateway's. Log plugins still see the others. Without a limit on their number: else the headers behind it would pass.
function M.hide_caller(conf, own)
  local headers, keep, logged, n = ngx.req.get_headers(0), kept_names(conf, own), {}, 0
  for name, value in pairs(headers) do
    n = n + 1
    if n <= MAX_LOGGED then
      logged[name] = SECRET[name] and "REDACTED" or value
    end
    if not keep[name] then
      kong.service.request.clear_header(name)
    end
  end
  kong.log.set_serialize_value("request.headers", logged)
  local shared = kong.ctx.shared
  shared.tenantgate_correlation = headers[conf.correlation_header:lower()]
  shared.tenantgate_origin = headers["origin"]
  shared.tenantgate_traceparent = headers["traceparent"]
  -- Kong, after all plugins, takes away what this header names (RFC 9110, 7.6.1): the credential as well, or the length.
  -- It reads them from here (kong/tools/http.lua, get_header).
  local cached = ngx.ctx.cached_request_headers
  if headers["connection"] ~= nil then
    kong.service.request.set_header("Connection", "keep-alive")
    if cached then
      cached["connection"] = "keep-alive"
    end
  end
  if cached then
    cached["te"] = nil
  end
  if not keep["accept"] then
    kong.service.request.set_header("Accept", "*/*")
  end
  if not keep["user-agent"] then
    kong.service.request.set_header("User-Agent", "Tenantgate")
  end
  for _, name in ipairs(FORWARDED) do
    ngx.var["upstream_x_forwarded_" .. name] = ""
  end
  ngx.var.upstream_via = ""
  -- For a WebSocket Kong would leave the response phase out.
  ngx.var.upstream_upgrade, ngx.var.upstream_connection = "", "keep-alive"
end

-- Accept-Encoding to a provider that takes `encoding`. ai-proxy reads this header next, and packs its reply if gzip is
-- named.
function M.accept_encoding(encoding)
  local accepted = kong.request.get_header("Accept-Encoding") or ""
  return accepted:find("%f[%a]gzip%f[%A]") and encoding or "identity"
end

return M
