-- OpenAI's format and that of all who offer it: hardly anything to translate. The usage of streams is asked for, read,
-- and kept from clients that didn't ask.
local cjson = require "kong.tools.cjson"
local frames = require "kong.plugins.tenantgate-target.frames"

local byte, find = string.byte, string.find

local COLON, SPACE, BRACE, QUOTE = 58, 32, 123, 34

-- Whether a chunk has a member of this name, in its quotes, whose value begins with this byte: most have none, or null.
-- Without a pattern, which LuaJIT doesn't compile.
local function has(text, name, start)
  local _, at = find(text, name, 1, true)
  while at do
    local next_at = at + 1
    local char = byte(text, next_at)
    while char == COLON or char == SPACE do
      next_at = next_at + 1
      char = byte(text, next_at)
    end
    if char == start then
      return true
    end
    _, at = find(text, name, next_at, true)
  end
  return false
end

local M = {content_types = {["text/event-stream"] = true}}

-- The request for the provider, from ai-proxy's copy of the client's.
function M.request(request, model, settings)
  local options = model.options or {}
  request.temperature = options.temperature or request.temperature
  request.top_p = options.top_p or request.top_p
  -- Newer models refuse max_tokens, others don't know its successor: the limit is written in the client's word.
  if options.max_tokens then
    if request.max_completion_tokens then
      request.max_completion_tokens, request.max_tokens = options.max_tokens, nil
    else
      request.max_tokens = options.max_tokens
    end
  end
  request.model = model.name or request.model
  request.stream = request.stream or false
  if settings.top_k then
    request.top_k = options.top_k or request.top_k
  else
    request.top_k = nil
  end
  if settings.stream_usage == "implied" then
    request.stream_options = nil
  elseif request.stream and settings.stream_usage == "asked" then
    local asked = type(request.stream_options) == "table" and request.stream_options or {}
    asked.include_usage = true
    request.stream_options = asked
  end
  return request
end

-- The reply for the client; nil and a message where it is none.
function M.reply(text, _, note)
  local reply = cjson.decode_with_array_mt(text)
  if type(reply) ~= "table" then
    return nil, "failed to decode llm/v1/chat response"
  elseif type(reply.choices) ~= "table" then
    return nil, "'choices' not in llm/v1/chat response"
  end
  note(reply.usage)
  if reply.usage ~= nil and type(reply.usage) ~= "table" then -- null, which ai-proxy takes for a table
    reply.usage = nil
    return cjson.encode(reply)
  end
  return text
end

local Stream = {}
Stream.__index = Stream

function M.stream(_, asked, note)
  return setmetatable({frames = frames.sse(), asked = asked, note = note}, Stream)
end

-- The chunks for the client in this piece of the provider's stream. `finished`: whether the answer is whole, though the
-- stream may go on with its usage.
function Stream:feed(piece)
  local chunks = {}
  for _, event in ipairs(self.frames:feed(piece)) do
    local data = event.data
    local kept = true
    self.finished = self.finished or has(data, '"finish_reason"', QUOTE)
    if data == "[DONE]" then
      self.note(nil, true)
    elseif has(data, '"usage"', BRACE) then
      local chunk = cjson.decode_with_array_mt(data)
      if type(chunk) == "table" then
        self.note(chunk.usage)
        local choices = chunk.choices
        kept = self.asked or chunk.error ~= nil or (type(choices) == "table" and #choices > 0)
      end
    end
    if kept then
      chunks[#chunks + 1] = data
    end
  end
  return chunks
end

return M
