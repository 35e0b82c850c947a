-- Amazon Bedrock's Converse API (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html).
-- Kong's driver loses all tool calls of a turn but the last, text before a tool call, images, `tool_choice`, a `stop` that
-- is a text, and refuses results of tools that aren't JSON; a `developer` message has no role then. It sends turns of one
-- role after each other, which Bedrock refuses, and cuts an event that comes in two pieces.
local cjson = require "kong.tools.cjson"
local frames = require "kong.plugins.tenantgate-target.frames"
local parts = require "kong.plugins.tenantgate-target.formats.parts"

local given = parts.given

local REASONS = {
  end_turn = "stop", stop_sequence = "stop", max_tokens = "length", tool_use = "tool_calls",
  guardrail_intervened = "content_filter", content_filtered = "content_filter",
  model_context_window_exceeded = "length",
}

local M = {content_types = {["application/vnd.amazon.eventstream"] = true}}

local function image(part)
  local url = type(part.image_url) == "table" and part.image_url.url
  local kind, data = parts.data_url(type(url) == "string" and url or "")
  local format = kind and kind:match("^image/(%w+)$")
  if not format then
    error("bedrock takes images as data URLs only", 0)
  end
  return {image = {format = format == "jpg" and "jpeg" or format, source = {bytes = data}}}
end

local function blocks(content)
  if type(content) ~= "table" then
    return {{text = given(content) or ""}}
  end
  local made = {}
  for _, part in ipairs(content) do
    local kind = type(part) == "table" and part.type
    if kind == "text" or kind == "refusal" then
      made[#made + 1] = {text = part.text or part.refusal}
    elseif kind == "image_url" then
      made[#made + 1] = image(part)
    else
      error("bedrock takes no part of type '" .. tostring(kind) .. "' here", 0)
    end
  end
  return made
end

local function assistant(message)
  local made, content = {}, given(message.content)
  if content and parts.text(content) ~= "" then
    made = blocks(content)
  end
  for _, call in ipairs(given(message.tool_calls) or {}) do
    local called = call["function"]
    local input = parts.arguments(called.arguments)
    made[#made + 1] = {toolUse = {toolUseId = call.id, name = called.name, input = input}}
  end
  return made
end

-- Bedrock wants the roles by turns: what follows in one role is one message.
local function add(made, role, content)
  local last = made[#made]
  if not last or last.role ~= role then
    made[#made + 1] = {role = role, content = content}
    return
  end
  for _, block in ipairs(content) do
    last.content[#last.content + 1] = block
  end
end

local function messages(request)
  local made, system, called = {}, {}, false
  for _, message in ipairs(request.messages) do
    local role = message.role
    if role == "system" or role == "developer" then
      system[#system + 1] = {text = parts.text(message.content)}
    elseif role == "tool" then
      called = true
      local result = {toolUseId = message.tool_call_id, content = blocks(message.content)}
      add(made, "user", {{toolResult = result}})
    elseif role == "assistant" then
      local content = assistant(message)
      if #content > 0 then
        add(made, "assistant", content)
      end
    else
      add(made, "user", blocks(message.content))
    end
  end
  return made, #system > 0 and system or nil, called
end

local function tool_choice(choice)
  if choice == "required" then
    return {any = {}}
  elseif choice == "auto" then
    return {auto = {}}
  elseif type(choice) == "table" and type(choice["function"]) == "table" then
    return {tool = {name = choice["function"].name}}
  end
end

function M.request(request, model)
  local options = model.options or {}
  -- There is no top_k for all models; others than Anthropic's refuse it under this name.
  local top_k = options.top_k or (model.name:find("anthropic", 1, true) and given(request.top_k))
  local made = {
    inferenceConfig = {
      maxTokens = parts.max_tokens(request, options),
      temperature = options.temperature or given(request.temperature),
      topP = options.top_p or given(request.top_p),
      stopSequences = parts.stops(request),
    },
    guardrailConfig = request.guardrailConfig,
    additionalModelRequestFields = top_k and {top_k = top_k} or nil,
  }
  local called
  made.messages, made.system, called = messages(request)
  local choice = given(request.tool_choice)
  -- There is no "none"; a conversation with results of tools must name the tools all the same.
  if choice ~= "none" or called then
    for i, tool in ipairs(parts.functions(request) or {}) do
      made.toolConfig = made.toolConfig or {tools = {}, toolChoice = tool_choice(choice)}
      made.toolConfig.tools[i] = {toolSpec = {
        name = tool.name,
        description = given(tool.description),
        inputSchema = {json = given(tool.parameters) or {type = "object"}},
      }}
    end
  end
  return made
end

-- As Anthropic does, Bedrock counts tokens of the prompt cache apart.
local function usage(counts)
  local cached, written = counts.cacheReadInputTokens or 0, counts.cacheWriteInputTokens or 0
  local prompt = (counts.inputTokens or 0) + cached + written
  return parts.usage(prompt, counts.outputTokens or 0, cached, written)
end

function M.reply(text, model, note)
  local reply = cjson.decode_with_array_mt(text)
  local message = type(reply) == "table" and type(reply.output) == "table" and reply.output.message
  if type(message) ~= "table" or type(message.content) ~= "table" then
    return nil, "no message in the reply of Bedrock"
  end
  local texts, calls = {}, {}
  for _, block in ipairs(message.content) do
    if type(block.text) == "string" then
      texts[#texts + 1] = block.text
    elseif type(block.toolUse) == "table" then
      local use = block.toolUse
      local called = {name = use.name, arguments = cjson.encode(use.input or {})}
      calls[#calls + 1] = {id = use.toolUseId, type = "function", ["function"] = called}
    end
  end
  local counts = note(reply.usage)
  return cjson.encode({
    id = "chatcmpl-" .. (ngx.var.kong_request_id or ""),
    object = "chat.completion",
    created = ngx.time(),
    model = model.name,
    choices = {{
      index = 0,
      message = {
        role = "assistant",
        content = #texts > 0 and table.concat(texts) or parts.null,
        tool_calls = #calls > 0 and calls or nil,
      },
      logprobs = parts.null,
      finish_reason = REASONS[reply.stopReason] or "stop",
    }},
    usage = counts and usage(counts) or nil,
    trace = reply.trace,
  })
end

local Stream = {}
Stream.__index = Stream

function M.stream(model, asked, note)
  return setmetatable({
    frames = frames.aws(), asked = asked, note = note, model = model.name, created = ngx.time(),
    id = "chatcmpl-" .. (ngx.var.kong_request_id or ""), calls = 0, call_of = {},
  }, Stream)
end

local EVENTS = {}

function EVENTS.messageStart(stream)
  return parts.chunk(stream, {role = "assistant", content = ""})
end

function EVENTS.contentBlockStart(stream, event)
  local use = event.start and event.start.toolUse
  if use then
    stream.call_of[event.contentBlockIndex] = stream.calls
    stream.calls = stream.calls + 1
    local called = {name = use.name, arguments = ""}
    local index = stream.call_of[event.contentBlockIndex]
    local call = {index = index, id = use.toolUseId, type = "function", ["function"] = called}
    return parts.chunk(stream, {tool_calls = {call}})
  end
end

function EVENTS.contentBlockDelta(stream, event)
  local delta = event.delta or {}
  if delta.text then
    return parts.chunk(stream, {content = delta.text})
  elseif delta.toolUse and stream.call_of[event.contentBlockIndex] then
    local index = stream.call_of[event.contentBlockIndex]
    local call = {index = index, ["function"] = {arguments = delta.toolUse.input}}
    return parts.chunk(stream, {tool_calls = {call}})
  end
end

function EVENTS.messageStop(stream, event)
  return parts.chunk(stream, {}, REASONS[event.stopReason] or "stop")
end

-- The last event.
function EVENTS.metadata(stream, event)
  local counts = stream.note(event.usage, true)
  if stream.asked and counts then
    return parts.chunk(stream, nil, nil, usage(counts)), "[DONE]"
  end
  return "[DONE]"
end

function Stream:feed(piece)
  local chunks = {}
  for _, event in ipairs(self.frames:feed(piece)) do
    local data = cjson.decode_with_array_mt(event.data)
    data = type(data) == "table" and data or {}
    local first, second
    if event.failed then
      first = parts.failure(data.message or "the provider failed", event.name or "server_error")
    elseif EVENTS[event.name] then
      first, second = EVENTS[event.name](self, data)
    end
    chunks[#chunks + 1] = first or nil
    chunks[#chunks + 1] = second
  end
  return chunks
end

return M
