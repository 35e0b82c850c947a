-- Tells the engine its settings as soon as a worker has them, and again when another engine has taken the place of one
-- that died. By itself Kong starts a plugin's instance at the next request; until then the engine wouldn't know where its
-- policies are, and would refuse what comes first, nor where the journal is that the one before it has left.
local NAME = "tenantgate"
local AGAIN_S = 0.5
local LOOK_S = 1
local PATIENCE_MS = 5000
local PING = "\148\0\1\164ping\144" -- a call in MessagePack-RPC, [0, 1, "ping", []]: the answer says that it isn't known
local HAS = "plugin.HasInstance" -- of our plugin server alone (src/tenantgate/kong/control.py)

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

-- Whether each configuration has its instance, which the engine has, too.
local function start()
  local known, plugin = require("kong.runloop.plugin_servers").load_plugin(NAME)
  local confs = known and configurations() or {}
  if #confs == 0 then
    return true
  end
  if not answers(plugin) then
    return false
  end
  for _, conf in ipairs(confs) do
    ngx.ctx.plugin_id = conf.__plugin_id -- what kong.plugin.get_id() gives, by which Kong knows instances
    local id = plugin.instance_callbacks.get_instance_id(plugin, conf)
    if id and plugin.rpc:call(HAS, id) == false then -- of an engine that is gone
      plugin.instance_callbacks.reset_instance(NAME, conf)
      id = plugin.instance_callbacks.get_instance_id(plugin, conf)
    end
    if not id then
      return false
    end
  end
  return true
end

local function try(premature, run)
  if premature or run ~= latest then
    return
  end
  local ran, done = pcall(start)
  if not (ran and done) then
    ngx.timer.at(AGAIN_S, try, run)
  elseif ngx.worker.id() == 0 then -- one worker looks after it; the others' instances begin with their next requests
    ngx.timer.at(LOOK_S, try, run)
  end
end

-- Start the engine's instances of this worker, in the background, for a configuration that is about to be in force.
function M.soon()
  latest = latest + 1
  ngx.timer.at(0, try, latest)
end

return M
