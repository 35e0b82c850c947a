-- IP addresses as their bytes, and which of them are of the public internet. Pure.
local byte, char, rep, sub = string.byte, string.char, string.rep, string.sub

local M = {}

local function ipv4(text)
  local parts = {text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")}
  if #parts ~= 4 then
    return nil
  end
  for i, part in ipairs(parts) do
    local n = tonumber(part)
    -- Some parsers read a zero in front as octal.
    if #part > 3 or n > 255 or (#part > 1 and byte(part) == 48) then
      return nil
    end
    parts[i] = n
  end
  return char(parts[1], parts[2], parts[3], parts[4])
end

-- Groups of an IPv6 address on one side of "::", as bytes.
local function groups(text)
  local out = {}
  if text == "" then
    return ""
  end
  for part in (text .. ":"):gmatch("([^:]*):") do
    if not part:find("^%x%x?%x?%x?$") then
      return nil
    end
    local n = tonumber(part, 16)
    out[#out + 1] = char((n - n % 256) / 256, n % 256)
  end
  return table.concat(out)
end

local function ipv6(text)
  local front, last = text:match("^(.*:)([%d.]+)$")
  if last and last:find(".", 1, true) then
    local v4 = ipv4(last)
    if not v4 then
      return nil
    end
    local a, b, c, d = byte(v4, 1, 4)
    text = front .. ("%x:%x"):format(a * 256 + b, c * 256 + d)
  end
  local head, tail = text:match("^(.-)::(.*)$")
  if not head then
    local all = groups(text)
    return all and #all == 16 and all or nil
  end
  local before, after = groups(head), groups(tail)
  if not before or not after or #before + #after > 14 then
    return nil
  end
  return before .. rep("\0", 16 - #before - #after) .. after
end

-- An address in its usual notation, IPv6 with or without brackets, as 4 or 16 bytes; nil for all else, also for
-- notations of which readers disagree (010.0.0.1, 0x7f.1, 127.1).
function M.parse(text)
  if text:find(":", 1, true) then
    return ipv6(text:match("^%[(.*)%]$") or text)
  end
  return ipv4(text)
end

-- An address as it stands before ":port".
function M.text(text, bytes)
  return #bytes == 16 and text:sub(1, 1) ~= "[" and "[" .. text .. "]" or text
end

-- A range, "10.0.0.0/8", as {bytes, bits}; nil if it is none.
function M.range(text)
  local address, bits = text:match("^(.-)/(%d%d?%d?)$")
  local bytes = address and M.parse(address)
  bits = tonumber(bits)
  if not bytes or bits > #bytes * 8 then
    return nil
  end
  return {bytes = bytes, bits = bits}
end

function M.within(bytes, range)
  if #bytes ~= #range.bytes then
    return false
  end
  local whole = (range.bits - range.bits % 8) / 8
  if sub(bytes, 1, whole) ~= sub(range.bytes, 1, whole) then
    return false
  end
  local left = range.bits - whole * 8
  if left == 0 then
    return true
  end
  local size = 2 ^ (8 - left)
  local a, b = byte(bytes, whole + 1), byte(range.bytes, whole + 1)
  return a - a % size == b - b % size
end

local function ranges(...)
  local out = {}
  for i, text in ipairs({...}) do
    out[i] = assert(M.range(text), text)
  end
  return out
end

-- IANA's special-purpose registries; 168.63.129.16 is Azure's metadata server.
local SPECIAL = ranges("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32",
  "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
  "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
  "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
local GLOBAL = M.range("2000::/3")
-- Addresses that hold one of IPv4, which is what a network asks in the end: mapped, and NAT64.
local HOLDING = ranges("::ffff:0:0/96", "64:ff9b::/96")

-- The IPv4 address within an address, or the address itself.
function M.inner(bytes)
  for _, range in ipairs(HOLDING) do
    if M.within(bytes, range) then
      return sub(bytes, 13)
    end
  end
  return bytes
end

-- Whether an address is of the public internet: not private, loopback, link-local, metadata, multicast, reserved.
function M.is_public(bytes)
  bytes = M.inner(bytes)
  if #bytes == 16 and not M.within(bytes, GLOBAL) then
    return false
  end
  for _, range in ipairs(SPECIAL) do
    if M.within(bytes, range) then
      return false
    end
  end
  return true
end

return M
