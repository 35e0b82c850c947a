-- Where requests may go: lists of patterns as in `egress.allow`. Pure.
--
--   host  host:port  *.suffix  *.suffix:port  https://host[:port]   TLS; port 443 unless given
--   http://host[:port]                                              without TLS; port 80 unless given
--   10.1.2.3:8443  [fd00::1]:8443                                   an address as a URL has it, private or not
--   10.0.0.0/8  fd00::/8                                            names may resolve to addresses in the range
local addresses = require "kong.plugins.tenantgate-failover.addresses"

local PORTS = {http = 80, https = 443}

local M = {}

-- A host in the one form in which it is compared, and its bytes if it is an address; nil for what isn't plainly one
-- or the other. A name whose last part is a number is read as an address by URL parsers (WHATWG, "ends in a number").
function M.host(text)
  if type(text) ~= "string" or #text > 255 then
    return nil
  end
  text = text:lower()
  local bytes = addresses.parse(text)
  if bytes then
    return #bytes == 16 and text:match("^%[(.*)%]$") or text, bytes
  end
  text = text:gsub("%.$", "")
  for label in (text .. "."):gmatch("([^.]*)%.") do
    if not label:find("^[%w_][%w_-]*$") or #label > 63 then
      return nil
    end
  end
  local last = text:match("[^.]*$")
  if last:find("^%d+$") or last:find("^0x%x*$") then
    return nil
  end
  return text
end

local function host_and_port(text)
  local host, port = text:match("^(%[.*%]):?(%d*)$")
  if not host then
    host, port = text:match("^([^:]*):?(%d*)$")
  end
  if not host or (port == "" and text:sub(-1) == ":") then
    return nil
  end
  port = port ~= "" and tonumber(port) or nil
  if port and (port < 1 or port > 65535) then
    return nil
  end
  return host, port
end

-- Scheme, host, port and path of a URL, the path with its query; nil for what isn't plainly one: no userinfo, no
-- fragment, no blank.
function M.url(text)
  local scheme, place, path = tostring(text):match("^(%a+)://([^/?#@\\]+)([^#]*)$")
  scheme = scheme and scheme:lower()
  local host, port = host_and_port(place or "")
  host = host and PORTS[scheme] and M.host(host)
  if not host or path:find("[^\33-\126]") or path ~= "" and path:sub(1, 1) ~= "/" then
    return nil
  end
  return {scheme = scheme, host = host, port = port or PORTS[scheme], path = path ~= "" and path or "/"}
end

-- A pattern as a table; nil if it is none, and then it permits nothing.
function M.pattern(text)
  if type(text) ~= "string" then
    return nil
  end
  local range = addresses.range(text)
  if range then
    return {range = range}
  end
  local scheme, rest = text:match("^(%a+)://(.*)$")
  scheme = (scheme or "https"):lower()
  local host, port = host_and_port(rest or text)
  if not host or not PORTS[scheme] then
    return nil
  end
  local made = {scheme = scheme, port = port or PORTS[scheme]}
  local suffix = host:match("^%*%.(.+)$")
  if suffix then
    local bytes
    suffix, bytes = M.host(suffix)
    made.suffix = suffix and not bytes and "." .. suffix or nil
    return made.suffix and made or nil
  end
  made.host, made.bytes = M.host(host)
  return made.host and made or nil
end

-- A list of patterns, for `refusal`.
function M.policy(list)
  local made = {names = {}, ranges = {}}
  for _, text in ipairs(list) do
    local pattern = M.pattern(text)
    if pattern then
      local kind = pattern.range and made.ranges or made.names
      kind[#kind + 1] = pattern
    end
  end
  return made
end

local function permits_host(policy, scheme, host, bytes, port)
  for _, p in ipairs(policy.names) do
    if p.scheme == scheme and p.port == port then
      if bytes and p.bytes == bytes or not bytes and p.host == host then
        return true
      end
      if p.suffix and not bytes and #host > #p.suffix and host:sub(-#p.suffix) == p.suffix then
        return true
      end
    end
  end
  return false
end

local function permits_address(policy, bytes)
  if addresses.is_public(bytes) then
    return true
  end
  local inner = addresses.inner(bytes)
  for _, p in ipairs(policy.ranges) do
    if addresses.within(bytes, p.range) or addresses.within(inner, p.range) then
      return true
    end
  end
  return false
end

-- Why a URL may not be asked: "host"; nil if it may. Every policy has to permit it. `host` as `M.host` gives it.
function M.refused_host(policies, scheme, host, bytes, port)
  for _, policy in ipairs(policies) do
    if not permits_host(policy, scheme, host, bytes, port) then
      return "host"
    end
  end
  return nil
end

-- Why an address that the host's name stands for may not be asked: "address"; nil if it may.
function M.refused_address(policies, bytes)
  for _, policy in ipairs(policies) do
    if not permits_address(policy, bytes) then
      return "address"
    end
  end
  return nil
end

return M
