-- The request to a provider, and the headers of its reply. Pure.
local M = {}

-- Of a request: what belongs to one connection, is written anew for each try, or tells who called.
local NOT_SENT = {
  ["connection"] = true, ["content-length"] = true, ["expect"] = true, ["forwarded"] = true, ["host"] = true,
  ["keep-alive"] = true, ["proxy"] = true, ["proxy-authenticate"] = true, ["proxy-authorization"] = true,
  ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true, ["upgrade"] = true,
  ["via"] = true, ["x-kong-request-id"] = true, ["x-real-ip"] = true,
}
-- Of a reply: what belongs to its connection. nginx acts on x-accel-…: no provider may tell it to.
local NOT_PASSED = {
  ["connection"] = true, ["content-length"] = true, ["keep-alive"] = true, ["proxy-authenticate"] = true,
  ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true, ["upgrade"] = true,
}
local MAX_LIMITS, MAX_LIMIT = 32, 128

-- Whether a header is the provider's to see, once it was set for its target.
function M.is_sent(name)
  name = name:lower()
  return not NOT_SENT[name] and not name:find("^x%-forwarded%-") and not name:find("^x%-tenantgate%-")
end

-- Whether a header of the reply goes on to the client's side.
function M.is_passed(name)
  return not NOT_PASSED[name] and not name:find("^x%-accel%-") and not name:find("^x%-tenantgate%-")
end

-- Whether a path, with its query, is one word: what follows a blank or a line end would be another part of the request.
function M.is_path(path)
  return type(path) == "string" and path:find("^/[\33-\126]*$") ~= nil
end

-- The request's head. `headers`: values by name, those of the allowlist `names` are sent.
-- A value with a line end can't come from nginx's parser, and is left out all the same.
function M.head(method, path, host, names, headers, length)
  local out = {method, " ", path, " HTTP/1.1\r\nHost: ", host, "\r\nContent-Length: ", length, "\r\n"}
  for _, name in ipairs(names) do
    local values = headers[name]
    for _, value in ipairs(type(values) == "table" and values or {values}) do
      if M.is_sent(name) and type(value) == "string" and not value:find("[\r\n%z]") then
        out[#out + 1] = name .. ": " .. value .. "\r\n"
      end
    end
  end
  out[#out + 1] = "\r\n"
  return table.concat(out)
end

-- `Host` of a URL.
function M.host_header(scheme, host, port)
  local text = host:find(":", 1, true) and "[" .. host .. "]" or host
  if port == (scheme == "https" and 443 or 80) then
    return text
  end
  return text .. ":" .. port
end

-- What a reply says of the provider's limits, by name in lower case.
function M.limits(headers)
  local out, n = {}, 0
  for name, value in pairs(headers) do
    if name == "retry-after" or name == "retry-after-ms" or name:find("ratelimit", 1, true) then
      n = n + 1
      if n > MAX_LIMITS then
        break
      end
      out[name] = (type(value) == "table" and value[1] or value):sub(1, MAX_LIMIT)
    end
  end
  return out
end

return M
