-- What Lua has where it makes a reply itself (content_by_lua): sockets, name resolution, the reply's body; and memory
-- that all workers share. What takes time goes to the host by leaving the coroutine, and comes back with its values.
local host, kong, ngx = ...

local yield = coroutine.yield

local function wait(...)
  if not host.in_content() then
    error("the embedded host waits for nothing but in content_by_lua", 3)
  end
  return yield(host.WAIT, ...)
end

-- ngx.socket.tcp (lua-nginx-module). Connections aren't kept for others.

local Socket = {}
Socket.__index = function(_, key)
  return rawget(Socket, key) or error("the embedded host has no " .. tostring(key) .. " of a socket", 2)
end

local function operate(self, name, ...)
  local id = rawget(self, "id")
  if not id then
    return nil, "closed"
  end
  return wait(name, id, ...)
end

function Socket:settimeouts(connect, send, read)
  self.connect_ms, self.send_ms, self.read_ms = connect, send, read
end

function Socket:settimeout(ms)
  self:settimeouts(ms, ms, ms)
end

function Socket:connect(address, port)
  self.id = nil
  local id, problem = wait("connect", address, port, self.connect_ms)
  if not id then
    return nil, problem
  end
  self.id = id
  return 1
end

function Socket:getreusedtimes()
  return 0
end

function Socket:sslhandshake(_, name, verify)
  return operate(self, "tls", name, verify == true, self.connect_ms)
end

local function flat(data)
  if type(data) ~= "table" then
    return tostring(data)
  end
  local parts = {}
  for i, part in ipairs(data) do
    parts[i] = flat(part)
  end
  return table.concat(parts)
end

function Socket:send(data)
  return operate(self, "send", flat(data), self.send_ms)
end

function Socket:receiveany(most)
  return operate(self, "receive", most, self.read_ms)
end

function Socket:close()
  local ok, problem = operate(self, "close")
  self.id = nil
  return ok, problem
end

Socket.setkeepalive = Socket.close

ngx.socket = {
  tcp = function()
    return setmetatable({connect_ms = 60000, send_ms = 60000, read_ms = 60000}, Socket)
  end,
}

kong.dns = {
  resolve = function(name)
    return wait("resolve", name)
  end,
}

-- The request's body, and the reply.

ngx.req.read_body = function() end

ngx.req.get_body_file = function()
  return nil -- bodies are in memory
end

function ngx.print(...)
  return wait("print", flat({...}))
end

function ngx.flush()
  return wait("print", "")
end

function ngx.send_headers()
  return wait("print", "")
end

function ngx.exit(status)
  return wait("exit", status)
end

ngx.update_time = function() end

-- ngx.shared.DICT: those that nginx is told to have.

local Dict = {}
Dict.__index = Dict

local function found(dict, key)
  local entry = dict.entries[key]
  if entry and entry.ends and entry.ends <= host.clock() then
    dict.entries[key] = nil
    return nil
  end
  return entry
end

function Dict:get(key)
  local entry = found(self, key)
  return entry and entry.value
end

function Dict:set(key, value, seconds)
  self.entries[key] = value ~= nil and {
    value = value,
    ends = seconds and seconds > 0 and host.clock() + seconds or nil,
  } or nil
  return true
end

function Dict:add(key, value, seconds)
  if found(self, key) then
    return false, "exists"
  end
  return self:set(key, value, seconds)
end

function Dict:incr(key, by, initial, seconds)
  local entry = found(self, key)
  if not entry then
    if not initial then
      return nil, "not found"
    end
    self:set(key, initial + by, seconds)
    return initial + by
  end
  entry.value = entry.value + by
  return entry.value
end

function Dict:delete(key)
  self.entries[key] = nil
end

Dict.safe_add, Dict.safe_set = Dict.add, Dict.set

ngx.shared = {}
for _, name in ipairs(host.dicts) do
  ngx.shared[name] = setmetatable({entries = {}}, Dict)
end

-- Modules of OpenResty's and Kong's that go with these.

package.preload["resty.random"] = function()
  return {
    bytes = function(n)
      return host.random(n)
    end,
  }
end
package.preload["resty.string"] = function()
  return {
    to_hex = function(text)
      return (text:gsub(".", function(c)
        return ("%02x"):format(c:byte())
      end))
    end,
  }
end
-- All of the body at once: its callers bound what comes out.
package.preload["ffi-zlib"] = function()
  return {
    inflateGzip = function(input, output, size)
      local parts = {}
      for piece in input, size do
        parts[#parts + 1] = piece
      end
      local text = host.inflate(table.concat(parts))
      if not text then
        return false, "INFLATE: data error"
      end
      return output(text) and true or false
    end,
  }
end
