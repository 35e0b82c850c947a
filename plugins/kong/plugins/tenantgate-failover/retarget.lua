-- Turns a request over to another target in the balancer phase, where nothing may yield and most of Kong's functions
-- refuse to run: ai-proxy's own filter writes the request anew, upon stand-ins for these.
local ai_ctx = require "kong.llm.plugin.ctx"
local ai_proxy = require "kong.plugins.ai-proxy.handler"
local cjson = require "kong.tools.cjson"
local kong_global = require "kong.global"
local normalize = require "kong.llm.plugin.shared-filters.normalize-request"
local outgoing = require "kong.plugins.tenantgate-failover.outgoing"

local NAME = "tenantgate-failover"
local BALANCE = "ai-proxy-advanced-balance"

local M = {}

-- Headers of the request now that are for the provider, values by name in lower case.
function M.headers()
  local out = {}
  for name, value in pairs(ngx.req.get_headers(0)) do
    if outgoing.is_sent(name) then
      out[name:lower()] = value
    end
  end
  return out
end

-- Their names, sorted.
function M.names(headers)
  local out = {}
  for name in pairs(headers) do
    out[#out + 1] = name
  end
  table.sort(out)
  return out
end

local function query(args)
  local parts = {}
  for name, value in pairs(args) do
    parts[#parts + 1] = ngx.encode_args({[name] = value})
  end
  table.sort(parts)
  return table.concat(parts, "&")
end

-- Functions of Kong's PDK that ai-proxy's drivers call, as they are to be while `asked` is made.
local function stand_ins(asked)
  local set_header = function(name, value) asked.headers[name:lower()] = value end
  return {
    [kong.service] = {
      set_target = function(host, port) asked.host, asked.port = host, port end,
    },
    [kong.service.request] = {
      set_scheme = function(scheme) asked.scheme = scheme end,
      set_path = function(path) asked.uri = require("kong.tools.uri").escape(path) end,
      set_query = function(args) asked.query = query(args) end,
      set_raw_query = function(text) asked.query = text end,
      set_header = set_header,
      set_headers = function(headers)
        for name, value in pairs(headers) do
          set_header(name, value)
        end
      end,
      clear_header = function(name) asked.headers[name:lower()] = nil end,
      set_raw_body = function(text) asked.body = text end,
      set_body = function(body, kind)
        asked.body = assert(cjson.encode(body))
        asked.headers["content-type"] = kind or "application/json"
        return true
      end,
      enable_buffering = function() end, -- as the first try has it
    },
    [kong.request] = {
      get_raw_body = function() return asked.body end,
      get_query = function() return {} end,
      get_header = function(name) return asked.headers[name:lower()] end,
    },
  }
end

local function replaced(replacements)
  local before = {}
  for holder, functions in pairs(replacements) do
    before[holder] = {}
    for name, replacement in pairs(functions) do
      before[holder][name] = holder[name]
      holder[name] = replacement
    end
  end
  return before
end

-- What is asked of a target: {scheme, host, port, path, headers (by name), body}; nil and a problem.
-- `target`: {conf (ai-proxy's configuration), accept_encoding}; `text`: the body as ai-proxy was given it; `base`: the
-- headers as they were before ai-proxy.
function M.asked(target, text, base)
  local body, kept = cjson.decode_with_array_mt(text), nil
  if target.conf.route_type == "preserve" then
    -- ai-proxy leaves the body as it is. A form names the same model for all targets.
    kept = text
    if type(body) == "table" then
      body.model = target.conf.model.name
      kept = cjson.encode(body)
    end
    body = type(body) == "table" and body or {}
  elseif type(body) ~= "table" then
    return nil, "its body is no JSON object"
  end
  body.model = nil -- the first target's name
  ai_ctx.set_request_body_table_inuse(body, NAME)
  ai_ctx.set_namespaced_ctx(BALANCE, "selected_target", target.conf)
  -- What ai-proxy has noted of the last target: an estimate of tokens, names at Azure.
  ngx.ctx.ai_llm_metrics = nil
  kong_global.set_named_ctx(kong, "plugin", ai_proxy, ngx.ctx)
  kong.ctx.plugin.ai_extra_meta = nil
  local asked = {headers = {}, query = "", body = kept}
  for name, value in pairs(base) do
    if outgoing.is_sent(name) then
      asked.headers[name:lower()] = value
    end
  end
  asked.headers["accept-encoding"] = target.accept_encoding or asked.headers["accept-encoding"]
  local before = replaced(stand_ins(asked))
  local ok, problem = pcall(normalize.run, normalize, target.conf)
  replaced(before)
  if not ok then
    return nil, problem
  end
  -- The filter reports no failure.
  if not asked.host or not asked.body or not asked.uri then
    return nil, "ai-proxy can't write this request for the provider"
  end
  asked.path = asked.uri .. (asked.query ~= "" and "?" .. asked.query or "")
  return asked
end

-- Puts the headers and the body of the next try in place of the last one's.
function M.apply(asked)
  for name in pairs(M.headers()) do
    if asked.headers[name] == nil then
      ngx.req.clear_header(name)
    end
  end
  for name, value in pairs(asked.headers) do
    ngx.req.set_header(name, value)
  end
  ngx.req.set_body_data(asked.body)
end

return M
