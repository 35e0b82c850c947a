-- Tells the engine its settings as soon as a worker has them, and again when another engine has taken the place of one
-- that died. By itself Kong starts a plugin's instance at the next request; until then the engine wouldn't know where its
-- policies are, and would refuse what comes first, nor where the journal is that the one before it has left.
local NAME = "tenantgate"
local AGAIN_S = 0.5
local LOOK_S = 1
local PATIENCE_MS = 5000
-- Calls in MessagePack-RPC: [0, 1, "ping", []], whose answer says that it isn't known; and [0, 1, NAME, [id]], of our
-- plugin server alone (src/tenantgate/kong/control.py), the id as a number of 32 bits. NO: [1, 1, nil, false].
local PING = "\148\0\1\164ping\144"
local HAS = "\148\0\1\178plugin.HasInstance\145\206"
local NO = "\148\1\1\192\194"

local M = {}

local latest = 0
local guarded

-- Kong answers 500 where it can't start an instance, whatever policy says. Without the error there is no decision, and
-- `tenantgate-target` does what then holds.
local function guard()
  local known, plugin = require("kong.runloop.plugin_servers").load_plugin(NAME)
  if not known or plugin == guarded then
    return
  end
  guarded = plugin
  for _, phase in ipairs({"access", "response"}) do
    local run = plugin[phase]
    plugin[phase] = run and function(...)
      local ran, err = pcall(run, ...)
      if not ran then
        kong.log.err("no answer of the engine: ", err)
      end
    end
  end
end

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

-- The first bytes of the answer to a call; nil without one. Until the engine has loaded its code it only listens. Kong's
-- own call would give up after `lua_socket_read_timeout`, log an error, and leave the answer to who calls next.
local function ask(plugin, call, size)
  local socket = ngx.socket.tcp()
  socket:settimeout(PATIENCE_MS)
  local answer = socket:connect("unix:" .. plugin.server_def.socket) and socket:send(call) and socket:receive(size)
  socket:close()
  return answer
end

local function bytes(number)
  local floor = math.floor
  return string.char(floor(number / 16777216) % 256, floor(number / 65536) % 256, floor(number / 256) % 256, number % 256)
end

-- Whether each configuration has its instance, which the engine has, too.
local function start()
  local known, plugin = require("kong.runloop.plugin_servers").load_plugin(NAME)
  local confs = known and configurations() or {}
  if #confs == 0 then
    return true
  end
  if not ask(plugin, PING, 1) then
    return false
  end
  for _, conf in ipairs(confs) do
    ngx.ctx.plugin_id = conf.__plugin_id -- what kong.plugin.get_id() gives, by which Kong knows instances
    local id = plugin.instance_callbacks.get_instance_id(plugin, conf)
    if id and ask(plugin, HAS .. bytes(id), #NO) == NO then -- of an engine that is gone
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

-- Start the engine's instances of this worker, in the background, for a configuration that is about to be in force. A
-- request that comes before has no decision.
function M.soon()
  latest = latest + 1
  pcall(guard)
  ngx.timer.at(0, try, latest)
end

return M
