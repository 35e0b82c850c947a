-- Kong's sandbox for code in a plugin's configuration (kong/tools/sandbox.lua, kong/tools/kong-lua-sandbox.lua), and
-- the chunks of pre-function and post-function (kong/plugins/pre-function/_handler.lua).
local kong, ngx, requires, trusted = ...

local SAFE = [[
  _VERSION assert error ipairs next pairs pcall select tonumber tostring type unpack xpcall
  coroutine.create coroutine.resume coroutine.running coroutine.status coroutine.wrap coroutine.yield
  math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos math.cosh math.deg math.exp math.fmod math.floor
  math.frexp math.huge math.ldexp math.log math.log10 math.max math.min math.modf math.pi math.pow math.rad math.random
  math.sin math.sinh math.sqrt math.tan math.tanh
  os.clock os.date os.difftime os.time
  string.byte string.char string.find string.format string.gmatch string.gsub string.len string.lower string.match
  string.rep string.reverse string.sub string.upper
  table.concat table.insert table.maxn table.remove table.sort
]]

local safe, modules = {}, {}
for module, name in SAFE:gmatch("([%w_]+)%.?([%w_]*)") do
  if name == "" then
    safe[module] = _G[module]
  else
    modules[module] = modules[module] or {}
    modules[module][name] = _G[module][name]
  end
end
for name, module in pairs(modules) do
  safe[name] = setmetatable({}, {
    __index = module,
    __newindex = function(_, key)
      error("Can not modify " .. name .. "." .. tostring(key) .. ". Protected by the sandbox.", 2)
    end,
  })
end

local outside = {
  kong = setmetatable({}, {__index = kong}),
  ngx = ngx,
  require = function(module)
    if not requires[module] then
      error(("require '%s' not allowed within sandbox"):format(tostring(module)), 2)
    end
    return require(module)
  end,
}

local S = {}

-- The code as a function, with globals of its own; nil and a message where it is no Lua.
function S.compile(code, name)
  if trusted then
    return load(code, "=" .. name, "t", setmetatable({kong = outside.kong, ngx = ngx}, {__index = _G}))
  end
  local env = setmetatable({}, {__index = outside})
  for key, value in pairs(safe) do
    env[key] = value
  end
  env._G = env
  return load(code, "=" .. name, "t", env)
end

-- One function that runs all. A chunk that returns a function is run once, and from then on that function.
function S.chain(functions)
  for i, f in ipairs(functions) do
    functions[i] = function()
      functions[i] = f
      local made = f()
      if type(made) == "function" then
        functions[i] = made
        made()
      end
    end
  end
  return function()
    for i = 1, #functions do
      functions[i]()
    end
  end
end

return S
