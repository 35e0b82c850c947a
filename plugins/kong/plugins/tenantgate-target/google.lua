-- Access tokens of Google service accounts (RFC 7523; https://developers.google.com/identity/protocols/oauth2/service-account),
-- of each worker until they end. Kong's driver asks for a new one at each request whose configuration is another table, as
-- ours always is, and asks the metadata server first. Where an egress policy binds the request, its token is asked for
-- through the hop (tenantgate-failover), which checks the address as it does a provider's.
local cjson = require "kong.tools.cjson"
local egress = require "kong.plugins.tenantgate-failover.egress"
local lrucache = require "resty.lrucache"
local order = require "kong.plugins.tenantgate-failover.order"
local tries = require "kong.plugins.tenantgate-failover.tries"

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

-- The address that tokens are asked of, as a table: over TLS; a server on this machine also without.
local function address(uri)
  local found = egress.url(uri)
  return found and (found.scheme == "https" or found.host == "127.0.0.1") and found or nil
end

-- The hop's order for one request.
local function ordered(found, key, lists)
  return {
    token = tries.token(), key = key, number = 1, egress = lists, stream = false, json = true, again = {}, more = false,
    deadline = ngx.now() + TIMEOUT_MS / 1000, connect_ms = TIMEOUT_MS, idle_ms = TIMEOUT_MS,
    first_byte_ms = TIMEOUT_MS, method = "POST", scheme = found.scheme, host = found.host, port = found.port,
    path = found.path, headers = {"content-type"},
  }
end

-- The reply of the token's server; nil and a problem. `way`: of the request: egress (JSON of lists), port of the hop.
local function posted(found, uri, form, way)
  local client = require("resty.http").new()
  local headers = {["Content-Type"] = "application/x-www-form-urlencoded"}
  if way.egress == "[]" then
    client:set_timeout(TIMEOUT_MS)
    return client:request_uri(uri, {method = "POST", body = form, headers = headers, ssl_verify = true})
  end
  local key = "google:" .. require("resty.string").to_hex(require("resty.random").bytes(16))
  headers[order.HEADER] = cjson.encode(ordered(found, key, way.egress))
  client:set_timeout(TIMEOUT_MS + 1000) -- the hop's own deadline comes first
  local reply, err = client:request_uri(("http://127.0.0.1:%d/"):format(way.port), {
    method = "POST", body = form, headers = headers,
  })
  local try = tries.get(key, 1)
  tries.forget(key, 1)
  if try and try.outcome == "refused" then
    return nil, "its address isn't in egress.allow"
  end
  return reply, err
end

local function ask(json, way)
  local account = cjson.decode_with_array_mt(json)
  local found = type(account) == "table" and address(account.token_uri)
  if not found or type(account.client_email) ~= "string" or type(account.private_key) ~= "string" then
    return nil, "is no key file of a service account"
  end
  local now = ngx.time()
  local signed = assertion(account, now)
  if not signed then
    return nil, "its private key can't sign"
  end
  local form = ngx.encode_args({grant_type = GRANT, assertion = signed})
  local reply, err = posted(found, account.token_uri, form, way)
  local given = reply and reply.status == 200 and cjson.decode_with_array_mt(reply.body)
  if type(given) ~= "table" or type(given.access_token) ~= "string" then
    return nil, "no token: " .. (err or "status " .. tostring(reply and reply.status))
  end
  local life = tonumber(given.expires_in) or LIFE_S
  local entry = {token = given.access_token, ends = now + life}
  tokens:set(json, entry, math.max(1, life - LATE_S))
  return entry
end

local function renew(json, way)
  asking[json] = true
  local ran, entry, err = pcall(ask, json, way)
  asking[json] = nil
  if not ran or not entry then
    kong.log.err("service account of Google: ", ran and err or "a token can't be asked for here")
    return nil
  end
  return entry
end

local M = {}

-- A token of the account whose key file this is; nil where there is none. May yield. `way`: {egress (JSON of the lists
-- that bind the request), port (of the hop)}.
function M.token(json, way)
  local entry = tokens:get(json)
  if not entry then
    entry = renew(json, way)
  elseif entry.ends - ngx.time() < EARLY_S and not asking[json] then
    asking[json] = true
    ngx.timer.at(0, function()
      renew(json, way)
    end)
  end
  return entry and entry.token
end

return M
