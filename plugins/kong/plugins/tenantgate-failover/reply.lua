-- Reads a reply in HTTP/1.1 (RFC 9112), piece by piece. Pure.
--
-- Stricter than most clients: what two readers could read in two ways is an error, as is a head above MAX_HEAD.
local M = {}

local MAX_HEAD, MAX_LINE = 65536, 1024
M.MAX_HEAD = MAX_HEAD

local function add(headers, name, value)
  local found = headers[name]
  if found == nil then
    headers[name] = value
  elseif type(found) == "table" then
    found[#found + 1] = value
  else
    headers[name] = {found, value}
  end
end

-- The head in `bytes` as {status, headers (by name in lower case; text, or a list of texts), minor}, and what comes
-- after it; nil if it isn't whole yet; nil and a problem if it is none.
function M.head(bytes)
  local stop, after = bytes:find("\r\n\r\n", 1, true)
  if (stop or #bytes) > MAX_HEAD then
    return nil, "its head is too large"
  end
  if not stop then
    return nil
  end
  local minor, status, at = bytes:match("^HTTP/1%.([01]) (%d%d%d)%f[ \r][^\r\n]*\r\n()")
  if not minor then
    return nil, "no HTTP/1.1"
  end
  if tonumber(status) > 599 then
    return nil, "a status that is none"
  end
  local headers = {}
  while at <= stop do
    local line_end = bytes:find("\r\n", at, true)
    local name, value = bytes:sub(at, line_end - 1):match("^([%w!#$%%&'*+.^_`|~-]+):[ \t]*([^\r\n%z]-)[ \t]*$")
    if not name then
      return nil, "a header that is none"
    end
    add(headers, name:lower(), value)
    at = line_end + 2
  end
  return {status = tonumber(status), headers = headers, minor = tonumber(minor)}, bytes:sub(after + 1)
end

-- How the body after a head ends, for `decode`; nil and a problem if that can't be told.
function M.framing(head)
  local status, headers = head.status, head.headers
  if status == 204 or status == 304 then
    return {kind = "length", left = 0}
  end
  local coding, length = headers["transfer-encoding"], headers["content-length"]
  if coding then
    if type(coding) ~= "string" or coding:lower() ~= "chunked" or length then
      return nil, "a transfer coding other than chunked"
    end
    return {kind = "chunked", buffer = "", left = 0, step = "size"}
  end
  if length then
    if type(length) ~= "string" or not length:find("^%d+$") or #length > 15 then
      return nil, "a length that is none"
    end
    return {kind = "length", left = tonumber(length)}
  end
  return {kind = "close"}
end

local function decode_chunked(framing, bytes)
  local out, buffer = {}, framing.buffer .. bytes
  local at = 1
  while true do
    if framing.step == "data" then
      local piece = buffer:sub(at, at + framing.left - 1)
      out[#out + 1] = piece
      at, framing.left = at + #piece, framing.left - #piece
      if framing.left > 0 then
        framing.buffer = ""
        return table.concat(out), false
      end
      framing.step = "end"
    end
    local stop = buffer:find("\r\n", at, true)
    if not stop then
      framing.buffer = buffer:sub(at)
      if #framing.buffer > MAX_LINE then
        return nil, false, "a chunk without an end"
      end
      return table.concat(out), false
    end
    local line = buffer:sub(at, stop - 1)
    at = stop + 2
    if framing.step == "end" then
      if line ~= "" then
        return nil, false, "a chunk of another size"
      end
      framing.step = "size"
    elseif framing.step == "size" then
      local size = line:match("^(%x+)[ \t]*$") or line:match("^(%x+)[ \t]*;")
      if not size or #size > 8 then
        return nil, false, "a chunk without a size"
      end
      framing.left = tonumber(size, 16)
      framing.step = framing.left > 0 and "data" or "trailer"
    elseif line == "" then -- the trailers' end
      framing.buffer = buffer:sub(at)
      framing.done = true
      return table.concat(out), true
    end
  end
end

-- The body's bytes in the next `bytes` of the connection, whether that was its end, and a problem instead of both.
-- `framing.over`: whether bytes came after the end, so that the connection can't be used again.
function M.decode(framing, bytes)
  if framing.kind == "close" then
    return bytes, false
  end
  if framing.kind == "length" then
    local piece = bytes:sub(1, framing.left)
    framing.left = framing.left - #piece
    framing.over = #bytes > #piece
    return piece, framing.left == 0
  end
  local piece, done, problem = decode_chunked(framing, bytes)
  framing.over = done and framing.buffer ~= ""
  return piece, done, problem
end

-- Whether the body is whole when the connection ends here.
function M.ends_here(framing)
  return framing.kind == "close"
end

-- For how many milliseconds, `most` at most, the connection may be used again after a whole body; nil: not at all.
function M.kept_ms(head, framing, most)
  local connection = head.headers["connection"]
  connection = (type(connection) == "table" and table.concat(connection, ",") or connection or ""):lower()
  if framing.kind == "close" or framing.over or head.minor ~= 1 or connection:find("close", 1, true) then
    return nil
  end
  local told = head.headers["keep-alive"]
  local seconds = type(told) == "string" and tonumber(told:match("timeout%s*=%s*(%d+)"))
  -- Well before its end: a request that crosses the provider's close on the way may have been done, or not.
  local ms = math.min(most, seconds and (seconds - 1) * 1000 or most)
  return ms > 0 and ms or nil
end

return M
