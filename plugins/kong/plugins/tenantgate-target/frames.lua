-- Readers of a stream's bytes, which come in pieces that end anywhere. ai-proxy's own take each piece by itself: an event
-- in two pieces loses its name or its end, and lines that end in CR LF give no event at all (kong/llm/drivers/shared.lua,
-- frame_to_events; kong/tools/aws_stream.lua).
local MAX_HELD = 16 * 1024 * 1024 -- bytes of an unfinished event

local byte, find, sub = string.byte, string.find, string.sub

local M = {}

local Sse = {}
Sse.__index = Sse

-- Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), lines ending in LF or CR LF.
function M.sse()
  return setmetatable({parts = {}, held = 0}, Sse)
end

function Sse:hold(piece)
  self.held = self.held + #piece
  if self.held > MAX_HELD then
    error("an event of a stream is too large", 0)
  end
  self.parts[#self.parts + 1] = piece
end

-- The events that end in this piece: a list of {name = event or nil, data = text}.
function Sse:feed(piece)
  local events = {}
  local at, stop = 1, find(piece, "\n", 1, true)
  while stop do
    local line = sub(piece, at, stop - 1)
    if self.held > 0 then
      self.parts[#self.parts + 1] = line
      line, self.parts, self.held = table.concat(self.parts), {}, 0
    end
    if byte(line, -1) == 13 then
      line = sub(line, 1, -2)
    end
    self:take(line, events)
    at = stop + 1
    stop = find(piece, "\n", at, true)
  end
  if at <= #piece then
    self:hold(sub(piece, at))
  end
  return events
end

function Sse:take(line, events)
  if line == "" then
    if self.data then
      events[#events + 1] = {name = self.name, data = self.data}
    end
    self.name, self.data = nil, nil
  elseif find(line, "data:", 1, true) == 1 then
    local value = sub(line, byte(line, 6) == 32 and 7 or 6)
    self.data = self.data and self.data .. "\n" .. value or value
    if #self.data > MAX_HELD then
      error("an event of a stream is too large", 0)
    elseif self.data == "[DONE]" then -- some end without the blank line
      self:take("", events)
    end
  elseif find(line, "event:", 1, true) == 1 then
    self.name = sub(line, byte(line, 7) == 32 and 8 or 7)
  end
end

local Aws = {}
Aws.__index = Aws

-- Amazon's event stream: application/vnd.amazon.eventstream, as Bedrock's ConverseStream answers
-- (https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html). The sums aren't checked: TLS has.
function M.aws()
  return setmetatable({rest = ""}, Aws)
end

local function number(text, at, bytes)
  local value = 0
  for i = at, at + bytes - 1 do
    value = value * 256 + byte(text, i)
  end
  return value
end

-- Bytes of a header's value by its type; 6 and 7 begin with their length.
local VALUE_BYTES = {[0] = 0, [1] = 0, [2] = 1, [3] = 2, [4] = 4, [5] = 8, [8] = 8, [9] = 16}

local function headers(text, at, last)
  local found = {}
  while at <= last do
    local length = byte(text, at)
    local name, kind = sub(text, at + 1, at + length), byte(text, at + length + 1)
    at = at + length + 2
    local bytes = VALUE_BYTES[kind]
    if not bytes then
      bytes, at = number(text, at, 2), at + 2
    end
    found[name] = sub(text, at, at + bytes - 1)
    at = at + bytes
  end
  return found
end

-- The messages that end in this piece: a list of {name = type of the event or exception, failed, data = text}.
function Aws:feed(piece)
  local text, events, at = self.rest .. piece, {}, 1
  while #text - at + 1 >= 12 do
    local length = number(text, at, 4)
    if length < 16 or length > MAX_HELD then
      error("a stream isn't Amazon's event stream", 0)
    elseif #text - at + 1 < length then
      break
    end
    local head = number(text, at + 4, 4)
    local found = headers(text, at + 12, at + 11 + head)
    local failed = found[":message-type"] ~= "event"
    events[#events + 1] = {
      name = found[":event-type"] or found[":exception-type"] or found[":error-code"],
      failed = failed,
      data = sub(text, at + 12 + head, at + length - 5),
    }
    at = at + length
  end
  self.rest = sub(text, at)
  return events
end

return M
