-- Modules that plugins in Kong may `require`: cjson, and the types of Kong's schemas.
local host, null = ...

local array_mt, empty_array_mt = {}, {}

local function strict(name, members)
  return setmetatable(members, {
    __index = function(_, key)
      error("the embedded host has no " .. name .. "." .. tostring(key), 2)
    end,
  })
end

-- "object" or "array", and an array's length (lua-cjson, lua_cjson.c, json_append_data and lua_array_length).
local function shape(value)
  local mt = getmetatable(value)
  if mt == array_mt or (mt == empty_array_mt and next(value) == nil) then
    return "array", #value
  end
  local last, count = 0, 0
  for key in pairs(value) do
    if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then
      return "object", 0
    end
    last, count = math.max(last, key), count + 1
  end
  if last > count * 2 and last > 32768 then
    return "sparse", 0
  end
  return last > 0 and "array" or "object", last
end

local function module(name, raises)
  local arrays = false
  local function given(failure, value)
    if failure == nil then
      return value
    elseif raises then
      error(failure, 2)
    end
    return nil, failure
  end
  return strict(name, {
    decode = function(text)
      return given(host.decode(text, arrays))
    end,
    encode = function(value)
      return given(host.encode(value))
    end,
    decode_array_with_array_mt = function(on)
      arrays = on
    end,
    new = function()
      return module(name, raises)
    end,
    null = null,
    array_mt = array_mt,
    empty_array_mt = empty_array_mt,
    empty_array = setmetatable({}, array_mt),
  })
end

package.preload["cjson"] = function()
  return module("cjson", true)
end
package.preload["cjson.safe"] = function()
  return module("cjson.safe", false)
end
package.preload["kong.tools.cjson"] = function()
  local cjson = module("cjson.safe", false)
  cjson.decode_array_with_array_mt(true)
  return strict("kong.tools.cjson", {
    encode = cjson.encode,
    decode_with_array_mt = cjson.decode,
    array_mt = array_mt,
  })
end

-- luafilesystem, as far as it tells mode, permissions and size.
package.preload["lfs"] = function()
  return strict("lfs", {attributes = host.attributes, symlinkattributes = host.symlinkattributes})
end

package.preload["kong.tools.sha256"] = function()
  return strict("kong.tools.sha256", {sha256_hex = host.sha256_hex})
end

-- kong/db/schema/typedefs.lua, as far as a type says all there is to check.
package.preload["kong.db.schema.typedefs"] = function()
  local function typedef(field)
    return setmetatable(field, {
      __call = function(_, more)
        local made = {}
        for _, from in ipairs({field, more}) do
          for key, value in pairs(from) do
            made[key] = value
          end
        end
        return made
      end,
    })
  end
  local function nobody(reference)
    return typedef({type = "foreign", reference = reference, eq = null})
  end
  local function protocols(...)
    return typedef({type = "set", required = true, elements = {type = "string"}, default = {...}})
  end
  return strict("kong.db.schema.typedefs", {
    no_consumer = nobody("consumers"),
    no_route = nobody("routes"),
    no_service = nobody("services"),
    port = typedef({type = "integer", between = {0, 65535}}),
    timeout = typedef({type = "integer", between = {0, 2147483646}}),
    protocols = protocols("grpc", "grpcs", "http", "https"),
    protocols_http = protocols("grpc", "grpcs", "http", "https"),
  })
end

-- kong/llm/plugin/ctx.lua: values of a request that ai-proxy shares with other plugins, by namespace and key.
local parsed_request = host.bound("ai.request_body_table")
local globals = {
  preserve_mode = host.bound("ai.preserve_mode"), response_body = host.bound("ai.response_body"),
  stream_mode = host.bound("ai.stream_mode"),
}
local use_response = host.bound("ai.use_response_body")
local use_request = host.bound("ai.use_request_body_table")
package.preload["kong.llm.plugin.ctx"] = function()
  local schemas = {["parse-request"] = {request_body_table = "table"}, _global = {
    preserve_mode = "boolean", response_body = "string", stream_mode = "boolean",
  }}
  local M = {}

  local function check(namespace, key)
    if not schemas[namespace] or not schemas[namespace][key] then
      error("key not registered in namespace: " .. namespace .. " key: " .. key, 3)
    end
  end

  function M.set_namespaced_ctx(namespace, key, value)
    check(namespace, key)
    if type(value) ~= schemas[namespace][key] then
      error("value type mismatch in namespace: " .. namespace .. " key: " .. key, 2)
    end
    if namespace == "_global" then
      if key ~= "response_body" then
        error("the embedded host can't set " .. key, 2)
      end
      use_response(value)
      return true
    end
    local all = ngx.ctx.ai_namespaced_ctx or {}
    ngx.ctx.ai_namespaced_ctx = all
    all[namespace] = all[namespace] or {}
    all[namespace][key] = value
    return true
  end

  function M.get_namespaced_ctx(namespace, key)
    check(namespace, key)
    if namespace == "parse-request" then
      local parsed = parsed_request()
      return parsed
    elseif namespace == "_global" then
      local value = globals[key]()
      return value
    end
    local all = ngx.ctx.ai_namespaced_ctx
    return all and all[namespace] and all[namespace][key]
  end

  function M.has_namespace(namespace)
    return schemas[namespace] ~= nil
  end

  function M.get_namespaced_accesors(namespace, schema)
    if schemas[namespace] then
      error("namespace already registered: " .. namespace, 2)
    end
    schemas[namespace] = schema
    return function(key)
      return M.get_namespaced_ctx(namespace, key)
    end, function(key, value)
      return M.set_namespaced_ctx(namespace, key, value)
    end
  end

  -- The body that normalize-request goes by.
  function M.set_request_body_table_inuse(body, source)
    assert(source, "source is missing")
    use_request(body)
  end

  return strict("kong.llm.plugin.ctx", M)
end

-- ai-proxy's filter that makes a target's request of the client's (normalize-request.lua, and configure_request of
-- the drivers). Kong's functions are looked up when it runs: plugins put others in their place where Kong refuses them.
local normalize, configure = host.bound("ai.normalize"), host.bound("ai.configure")
package.preload["kong.llm.plugin.shared-filters.normalize-request"] = function()
  return strict("kong.llm.plugin.shared-filters.normalize-request", {
    NAME = "normalize-request",
    run = function()
      local body = normalize()
      if not body then
        return true
      end
      if not globals.preserve_mode() then
        kong.service.request.set_body(body, "application/json")
      end
      local made = configure()
      for name, value in pairs(made.headers) do
        kong.service.request.set_header(name, value)
      end
      kong.service.request.set_path(made.path)
      kong.service.request.set_scheme(made.scheme)
      kong.service.set_target(made.host, made.port)
      local auth = made.auth
      if auth.header_name and auth.header_value
        and (not auth.allow_override or kong.request.get_header(auth.header_name) == nil) then
        kong.service.request.set_header(auth.header_name, auth.header_value)
      end
      if auth.param_name then
        error("the embedded host has no credentials in parameters here")
      end
      return true
    end,
  })
end

-- kong/global.lua, and ai-proxy's handler as the key of its namespace.
package.preload["kong.plugins.ai-proxy.handler"] = function()
  return strict("kong.plugins.ai-proxy.handler", {PRIORITY = 770})
end
package.preload["kong.global"] = function()
  return strict("kong.global", {
    set_named_ctx = function(_, name, key)
      if name ~= "plugin" or key ~= require "kong.plugins.ai-proxy.handler" then
        error("the embedded host gives out ai-proxy's namespace alone", 2)
      end
      host.act_as("ai-proxy")
    end,
  })
end

-- lua-resty-core's ngx.balancer, as far as Kong lets plugins use it.
package.preload["ngx.balancer"] = function()
  return strict("ngx.balancer", {recreate_request = host.bound("recreate_request")})
end

-- kong/tools/uri.lua
package.preload["kong.tools.uri"] = function()
  return strict("kong.tools.uri", {
    escape = function(uri)
      return (uri:gsub("[^!#$&'()*+,/:;=?@%w%-%._~%%]", function(c)
        return ("%%%02X"):format(c:byte())
      end))
    end,
  })
end

-- lua-resty-lrucache: new, get, set, delete.
package.preload["resty.lrucache"] = function()
  local Cache = {}
  Cache.__index = Cache

  function Cache:get(key)
    local entry = self.entries[key]
    if not entry then
      return nil
    end
    self.turn = self.turn + 1
    entry.used = self.turn
    if entry.ends and entry.ends <= ngx.now() then
      return nil, entry.value
    end
    return entry.value
  end

  function Cache:set(key, value, ttl)
    if not self.entries[key] then
      if self.count == self.max then
        local oldest
        for name, entry in pairs(self.entries) do
          if not oldest or entry.used < self.entries[oldest].used then
            oldest = name
          end
        end
        self:delete(oldest)
      end
      self.count = self.count + 1
    end
    self.turn = self.turn + 1
    self.entries[key] = {value = value, used = self.turn, ends = ttl and ngx.now() + ttl}
  end

  function Cache:delete(key)
    if self.entries[key] then
      self.entries[key], self.count = nil, self.count - 1
    end
  end

  return strict("resty.lrucache", {
    new = function(max)
      return setmetatable({entries = {}, count = 0, turn = 0, max = max}, Cache)
    end,
  })
end

-- Other modules are the operator's files; nothing else is found.
for i = #package.loaders, 2, -1 do
  package.loaders[i] = nil
end
package.loaders[2] = function(name)
  local source, chunk = host.find(name)
  if not source then
    return "\n\tno file of this name in lua_package_path"
  end
  return assert(load(source, "=" .. chunk, "t"))
end

return {
  shape = shape,
  array_mt = array_mt,
  matching = function(pattern, message)
    return function(value)
      if value:match(pattern) then
        return true
      end
      return nil, message or "invalid value"
    end
  end,
}
