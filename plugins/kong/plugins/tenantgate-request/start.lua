-- Tells the engine its settings as soon as a worker has them. By itself Kong starts a plugin's instance at the first
-- request; until then the engine wouldn't know where its policies are, and a new node would refuse what comes first.
local NAME = "tenantgate"
local AGAIN_S = 0.5
local PATIENCE_MS = 5000
local PING = "\148\0\1\164ping\144" -- a call in MessagePack-RPC, [0, 1, "ping", []]: the answer says that it isn't known
local TIMES = 240 -- the engine may be started after Kong; requests start the instance in any case

local M = {}

local latest = 0

-- The configurations of the engine's plugin that are in force, as Kong gives them to its phases.
local function configurations()
  local found = {}
  local iterator = require("kong.runloop.handler").get_plugins_iterator()
  for _, data in pairs(iterator and iterator.ws or {}) do
    for _, conf in pairs(data.combos[NAME] or {}) do
      found[#found + 1] = conf
    end
  end
  return found
end

-- Whether the engine reads what it is sent: until it has loaded its code it only listens. Kong's own call would give up
-- after `lua_socket_read_timeout`, and log an error.
local function answers(plugin)
  local socket = ngx.socket.tcp()
  socket:settimeout(PATIENCE_MS)
  local answer = socket:connect("unix:" .. plugin.server_def.socket) and socket:send(PING) and socket:receive(1)
  socket:close()
  return answer ~= nil
end

local function start()
  local known, plugin = require("kong.runloop.plugin_servers").load_plugin(NAME)
  if not known then
    return true
  end
  local confs = configurations()
  if #confs == 0 then
    return true
  end
  if not answers(plugin) then
    return false
  end
  for _, conf in ipairs(confs) do
    ngx.ctx.plugin_id = conf.__plugin_id -- what kong.plugin.get_id() gives, by which Kong knows instances
    if not plugin.instance_callbacks.get_instance_id(plugin, conf) then
      return false
    end
  end
  return true
end

local function try(premature, run, times)
  if premature or run ~= latest then
    return
  end
  local ran, done = pcall(start)
  if not (ran and done) and times > 1 then
    ngx.timer.at(AGAIN_S, try, run, times - 1)
  end
end

-- Start the engine's instances of this worker, in the background, for a configuration that is about to be in force.
function M.soon()
  latest = latest + 1
  ngx.timer.at(0, try, latest, TIMES)
end

return M
