-- `kong` and `ngx` for Lua plugins, over functions of the host. Names that the host doesn't have raise an error that
-- says so. Written after kong/pdk/*.lua of Kong 3.9.
local host = ...

local call = host.call
local yield, create, resume = coroutine.yield, coroutine.create, coroutine.resume
local lower, concat = string.lower, table.concat

local request  -- {shared = {}, plugins = {}, body = nil}: the request under way
local plugin   -- name of the plugin that runs

table.unpack = table.unpack or unpack  -- LuaJIT in Kong has these from Lua 5.2
table.pack = table.pack or function(...)
  return {n = select("#", ...), ...}
end

local function missing(name)
  return function(_, key)
    error("the embedded host has no " .. name .. "." .. tostring(key), 2)
  end
end

local function namespace(name, members)
  return setmetatable(members or {}, {__index = missing(name)})
end

-- A function of the host answers (failure, value); the failure `true` means that the request was answered, and the
-- phase ends there, as in kong.response.exit.
local function bound(name, level)
  return function(...)
    local failure, value = call(name, ...)
    if failure == nil then
      return value
    elseif failure == true then
      return yield()
    end
    error(failure, level or 2)
  end
end

-- The same by name at each call.
local function bound_call(name, ...)
  return bound(name)(...)
end

local roots = {kong = namespace("kong"), ngx = namespace("ngx")}
local kong, ngx = roots.kong, roots.ngx

for _, name in ipairs(host.names) do
  local at, path, root = roots, nil, true
  for part in name:gmatch("([^.]+)%.") do
    path = path and path .. "." .. part or part
    if rawget(at, part) == nil then
      at[part] = namespace(path)
    end
    at, root = at[part], false
  end
  at[name:match("[^.]+$")] = bound(name)
end

-- Headers are found in any case and with "_" for "-" (lua-resty-core, resty/core/request.lua).
local any_case = {
  __index = function(headers, name)
    local plain = lower(name):gsub("_", "-")
    return plain ~= name and rawget(headers, plain) or nil
  end,
}

for _, at in ipairs({kong.request, kong.response, kong.service.response, ngx.req, ngx.resp}) do
  local get_headers = at.get_headers
  at.get_headers = function(max)
    return setmetatable(get_headers(max), any_case)
  end
end

-- kong.log

local log = {set_serialize_value = bound("kong.log.set_serialize_value"), serialize = bound("kong.log.serialize")}

local function written(level)
  return function(...)
    local words = {...}
    for i = 1, select("#", ...) do
      words[i] = tostring(words[i])
    end
    host.log(level, concat(words))
  end
end

for _, level in ipairs({"debug", "info", "notice", "warn", "err", "crit", "alert", "emerg"}) do
  log[level] = written(level)
end

kong.log = setmetatable(log, {
  __index = missing("kong.log"),
  __call = function(self, ...)
    return self.notice(...)
  end,
})

-- kong.ctx (kong/pdk/ctx.lua): outside of a request nil.
kong.ctx = setmetatable({}, {
  __index = function(_, key)
    if key == "shared" then
      return request and request.shared
    elseif key == "plugin" then
      if request and not request.plugins[plugin] then
        request.plugins[plugin] = {}
      end
      return request and request.plugins[plugin]
    end
    return missing("kong.ctx")(nil, key)
  end,
})

-- kong.service.set_target_retry_callback (kong/pdk/service.lua)
local only_in_access = bound("only_in_access", 3)

function kong.service.set_target_retry_callback(callback)
  only_in_access()
  if type(callback) ~= "function" then
    error("retry_callback must be a function", 2)
  end
  request.tables.balancer_data.retry_callback = callback
end

kong.table = namespace("kong.table", {
  new = require("table.new"),
  clear = require("table.clear"),
  merge = function(one, other)
    local merged = {}
    for _, from in ipairs({one or {}, other or {}}) do
      for key, value in pairs(from) do
        merged[key] = value
      end
    end
    return merged
  end,
})

-- Of kong.conf, the settings of vaults.
kong.configuration = host.configuration

kong.version, kong.version_num = host.version, host.version_num

-- The body of a reply (kong/pdk/response.lua).

local arg = {}
local only_in_body_filter = bound("only_in_body_filter", 3)

function kong.response.get_raw_body()
  only_in_body_filter()
  local chunk, last = arg[1], arg[2]
  if last and not request.body then
    return chunk
  end
  request.body = request.body or {}
  request.body[#request.body + 1] = chunk
  arg[1] = nil
  if not last then
    return nil
  end
  arg[1], request.body = concat(request.body), nil
  return arg[1]
end

function kong.response.set_raw_body(body)
  only_in_body_filter()
  if type(body) ~= "string" then
    error("body must be a string", 2)
  end
  arg[1], arg[2] = body == "" and "\n" or body, true
  request.body = nil
end

-- ngx

ngx.null = newproxy(true)
getmetatable(ngx.null).__tostring = function()
  return "userdata: NULL"
end
ngx.arg = arg
ngx.config = namespace("ngx.config", {subsystem = "http"})
ngx.OK, ngx.ERROR = 0, -1
for name, number in pairs(host.methods) do
  ngx["HTTP_" .. name] = number
end
for number, name in ipairs({"EMERG", "ALERT", "CRIT", "ERR", "WARN", "NOTICE", "INFO", "DEBUG"}) do
  ngx[name] = number
end
local levels = {"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}
function ngx.log(number, ...)
  log[levels[number]](...)
end

local function pairs_of(get, set)
  return setmetatable({}, {
    __index = function(_, key)
      local value = get(key)  -- no tail call: an error is raised two levels above
      return value
    end,
    __newindex = function(_, key, value)
      set(key, value)
    end,
  })
end

ngx.var = pairs_of(bound("ngx.var.get", 3), bound("ngx.var.set", 3))

-- `ngx.ctx.plugins` as far as the host has it: in `response` each plugin and its configuration by turns, their number
-- at 0 (kong/runloop/plugins_iterator.lua).
local function collected(names)
  local response = {[0] = #names * 2}
  for i, name in ipairs(names) do
    response[i * 2 - 1], response[i * 2] = {name = name}, {}
  end
  return {response = response}
end

-- Tables stay here. In Python they would belong to the coroutine that gave them, and outlive it.
local get_ctx, set_ctx = bound("ngx.ctx.get", 4), bound("ngx.ctx.set", 4)
local response_plugins = bound("response_plugins")
ngx.ctx = pairs_of(function(key)
  local tables = request and request.tables
  if tables and key == "plugins" and not tables.plugins then
    tables.plugins = collected(response_plugins())
  end
  if tables and tables[key] then
    return tables[key]
  end
  local value = get_ctx(key)
  return value
end, function(key, value)
  set_ctx(key, value)
  request.tables[key] = type(value) == "table" and value or nil
end)
ngx.header = pairs_of(bound("ngx.header.get", 3), bound("ngx.header.set", 3))

local headers_sent = bound("ngx.headers_sent", 3)
local get_status, set_status = bound("ngx.status.get", 3), bound("ngx.status.set", 3)
local setting_up = true
setmetatable(ngx, {
  __index = function(_, key)
    if key == "status" then
      local status = get_status()
      return status
    elseif key == "headers_sent" then
      local sent = headers_sent()
      return sent
    end
    return missing("ngx")(nil, key)
  end,
  __newindex = function(self, key, value)
    if key == "status" then
      set_status(value)
      return
    elseif setting_up then
      rawset(self, key, value)
      return
    end
    error("the embedded host can't set ngx." .. tostring(key), 2)
  end,
})

-- What the host calls.

local M = {kong = kong, ngx = ngx, null = ngx.null, bound = bound, bound_call = bound_call}

-- The namespace of kong.ctx.plugin becomes that of another plugin (kong/global.lua, set_named_ctx).
function M.act_as(name)
  plugin = name
end

-- Nothing is added to `ngx` from here on.
function M.seal()
  setting_up = false
end

-- ngx.ctx.balancer_data: host, port and scheme as the host has them.
local get_upstream = bound("balancer_data.get", 3)
local balancer_data = {
  __index = function(_, key)
    local value = get_upstream(key)
    return value
  end,
}

function M.request(shared)
  return {shared = shared, plugins = {}, tables = {balancer_data = setmetatable({}, balancer_data)}}
end

-- Another try: whether there is a target for it (kong/runloop/balancer/init.lua, execute).
function M.retry()
  local callback = rawget(request.tables.balancer_data, "retry_callback")
  if not callback then
    return true
  end
  return callback() and true or false
end

-- Run a function in a coroutine, which an answer leaves without an end (kong/init.lua,
-- execute_collecting_plugins_iterator): true and its value, or false and its error.
function M.run(this, name, f, ...)
  request, plugin = this, name
  local thread = create(f)
  local ended, value = resume(thread, ...)
  request, plugin = nil, nil
  return ended, value
end

-- A function as a coroutine that the host resumes: in content_by_lua it waits for what takes time.
local WAIT = {}
local in_content = false

function M.thread(f)
  return {create(f)}
end

-- True and what it waits for, true and nothing at its end; or false and its error.
function M.resume(this, name, thread, ...)
  request, plugin, in_content = this, name, true
  local result = table.pack(resume(thread[1], ...))
  request, plugin, in_content = nil, nil, false
  if not result[1] then
    return false, result[2]
  elseif coroutine.status(thread[1]) == "dead" or result[2] ~= WAIT then
    return true, nil
  end
  return true, {unpack(result, 3, result.n)}
end

M.WAIT = WAIT
function M.in_content()
  return in_content
end

-- The same in body_filter: true, the chunk and whether it is the last one; or false and the error.
function M.filter(this, name, chunk, last, f, ...)
  arg[1], arg[2] = chunk, last
  local ended, failure = M.run(this, name, f, ...)
  if not ended then
    return false, failure, nil
  end
  return true, arg[1], arg[2]
end

-- All names that there are, and of those that stand for any name below them "name.*".
function M.names()
  local found = {["ngx.status"] = true, ["ngx.headers_sent"] = true}
  for _, open in ipairs({"kong.ctx.shared", "kong.ctx.plugin", "ngx.ctx", "ngx.var", "ngx.header"}) do
    found[open], found[open .. ".*"] = true, true
  end
  local function walk(path, at)
    for key, value in pairs(at) do
      if type(key) == "string" then
        local name = path .. "." .. key
        found[name] = true
        if type(value) == "table" then
          walk(name, value)
        end
      end
    end
  end
  walk("kong", kong)
  walk("ngx", ngx)
  local list = {}
  for name in pairs(found) do
    list[#list + 1] = name
  end
  return list
end

return M
