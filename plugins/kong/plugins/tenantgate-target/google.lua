-- Access tokens of Google service accounts (RFC 7523; https://developers.google.com/identity/protocols/oauth2/service-account),
-- of each worker until they end. Kong's driver asks for a new one at each request whose configuration is another table, as
-- ours always is, and asks the metadata server first.
local cjson = require "kong.tools.cjson"
local lrucache = require "resty.lrucache"

local SCOPE = "https://www.googleapis.com/auth/cloud-platform"
local GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
local LIFE_S, TIMEOUT_MS = 3600, 5000
-- Before a token's end: from when on a new one is asked for beside requests, and before them.
local EARLY_S, LATE_S = 600, 30
local MAX_ENTRIES = 1000

local tokens = assert(lrucache.new(MAX_ENTRIES))
local asking = {} -- accounts whose token is being asked for

local function base64url(text)
  return (ngx.encode_base64(text, true):gsub("+", "-"):gsub("/", "_"))
end

local function assertion(account, now)
  local pkey = require "resty.openssl.pkey"
  local key = pkey.new(account.private_key)
  if not key then
    return nil
  end
  local head = {alg = "RS256", typ = "JWT", kid = account.private_key_id}
  local claims = {
    iss = account.client_email, scope = SCOPE, aud = account.token_uri, iat = now, exp = now + LIFE_S,
  }
  local signed = base64url(cjson.encode(head)) .. "." .. base64url(cjson.encode(claims))
  local signature = key:sign(signed, "sha256")
  return signature and signed .. "." .. base64url(signature)
end

-- Tokens are asked for over TLS only; of a server on this machine also without.
local function is_address(url)
  return type(url) == "string" and (url:find("^https://") or url:find("^http://127%.0%.0%.1:")) ~= nil
end

local function ask(json)
  local account = cjson.decode_with_array_mt(json)
  if type(account) ~= "table" or type(account.client_email) ~= "string" or type(account.private_key) ~= "string"
    or not is_address(account.token_uri) then
    return nil, "is no key file of a service account"
  end
  local now = ngx.time()
  local signed = assertion(account, now)
  if not signed then
    return nil, "its private key can't sign"
  end
  local client = require("resty.http").new()
  client:set_timeout(TIMEOUT_MS)
  local reply, err = client:request_uri(account.token_uri, {
    method = "POST",
    body = ngx.encode_args({grant_type = GRANT, assertion = signed}),
    headers = {["Content-Type"] = "application/x-www-form-urlencoded"},
    ssl_verify = true,
  })
  local found = reply and reply.status == 200 and cjson.decode_with_array_mt(reply.body)
  if type(found) ~= "table" or type(found.access_token) ~= "string" then
    return nil, "no token: " .. (err or "status " .. tostring(reply and reply.status))
  end
  local life = tonumber(found.expires_in) or LIFE_S
  local entry = {token = found.access_token, ends = now + life}
  tokens:set(json, entry, math.max(1, life - LATE_S))
  return entry
end

local function renew(json)
  asking[json] = true
  local ran, entry, err = pcall(ask, json)
  asking[json] = nil
  if not ran or not entry then
    kong.log.err("service account of Google: ", ran and err or "a token can't be asked for here")
    return nil
  end
  return entry
end

local M = {}

-- A token of the account whose key file this is; nil where there is none. May yield.
function M.token(json)
  local entry = tokens:get(json)
  if not entry then
    entry = renew(json)
  elseif entry.ends - ngx.time() < EARLY_S and not asking[json] then
    asking[json] = true
    ngx.timer.at(0, function()
      renew(json)
    end)
  end
  return entry and entry.token
end

return M
