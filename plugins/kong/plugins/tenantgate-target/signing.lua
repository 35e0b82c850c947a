-- Address and signature of requests to Amazon Bedrock. Kong's driver makes an SDK of its own for each of our requests, and
-- leaves a model's name in the path as it is: an ARN has slashes.
local M = {}

local function percent(text, kept)
  return (text:gsub("[^%w._~-]", function(char)
    return char == kept and char or ("%%%02X"):format(char:byte())
  end))
end

-- Scheme, host, port and path of the Converse operation.
function M.address(model, streaming)
  local options = model.options
  local base = options.upstream_url or ("https://bedrock-runtime.%s.amazonaws.com"):format(options.bedrock.aws_region)
  local scheme, host, port, path = base:match("^(https?)://([^:/]+):?(%d*)(/?.-)/?$")
  local operation = streaming and "converse-stream" or "converse"
  path = ("%s/model/%s/%s"):format(path, percent(model.name), operation)
  return scheme, host, tonumber(port) or (scheme == "https" and 443 or 80), path
end

local function credentials(auth)
  return {
    get = function()
      return true, auth.aws_access_key_id, auth.aws_secret_access_key, auth.aws_session_token
    end,
  }
end

-- Kong's `configure_request`: where the request goes, with which credential.
function M.configure(auth, model, streaming)
  local scheme, host, port, path = M.address(model, streaming)
  kong.service.request.set_path(path)
  kong.service.request.set_scheme(scheme)
  kong.service.set_target(host, port)
  if auth.header_name then
    kong.service.request.set_header(auth.header_name, auth.header_value)
    return true
  end
  local sign = require "resty.aws.request.sign"
  local signed, err = sign({
    region = model.options.bedrock.aws_region,
    credentials = credentials(auth),
    signatureVersion = "v4",
    endpointPrefix = "bedrock",
  }, {
    headers = {},
    method = "POST",
    path = path,
    -- A path is signed as it is sent, and quoted once more.
    canonicalURI = percent(path, "/"),
    host = host,
    port = port,
    body = kong.request.get_raw_body(), -- tenantgate-failover stands in for it on a further try
  })
  if not signed then
    return nil, "failed to sign AWS request: " .. (err or "")
  end
  for _, name in ipairs({"Authorization", "X-Amz-Date", "X-Amz-Security-Token"}) do
    if signed.headers[name] then
      kong.service.request.set_header(name, signed.headers[name])
    end
  end
  return true
end

return M
