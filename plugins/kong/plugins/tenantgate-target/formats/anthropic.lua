-- Anthropic's Messages API (https://docs.anthropic.com/en/api/messages). Kong's driver loses `stop`, `top_p`, `top_k`,
-- `user`, a `developer` message, all `system` messages but the last, images, `tool_choice` in OpenAI's form, the text
-- beside a tool call, tool calls in streams and the finish reason.
local cjson = require "kong.tools.cjson"
local frames = require "kong.plugins.tenantgate-target.frames"
local parts = require "kong.plugins.tenantgate-target.formats.parts"

local given = parts.given

-- Anthropic wants a limit; where nobody gives one, this.
local MAX_TOKENS = 4096

local REASONS = {
  end_turn = "stop", stop_sequence = "stop", pause_turn = "stop", max_tokens = "length",
  model_context_window_exceeded = "length", tool_use = "tool_calls", refusal = "content_filter",
}

local M = {content_types = {["text/event-stream"] = true}}

local function image(part)
  local url = type(part.image_url) == "table" and part.image_url.url or part.image_url
  if type(url) ~= "string" then
    error("an image_url part has no url", 0)
  end
  local kind, data = parts.data_url(url)
  if kind then
    return {type = "image", source = {type = "base64", media_type = kind, data = data}}
  end
  return {type = "image", source = {type = "url", url = url}}
end

-- Without empty texts, which Anthropic refuses.
local function blocks(content)
  if type(content) ~= "table" then
    content = {{type = "text", text = given(content) or ""}}
  end
  local made = {}
  for _, part in ipairs(content) do
    local kind = type(part) == "table" and part.type
    local block
    if kind == "text" or kind == "refusal" then
      block = {type = "text", text = part.text or part.refusal}
    elseif kind == "image_url" then
      block = image(part)
    else
      error("anthropic takes no part of type '" .. tostring(kind) .. "' here", 0)
    end
    block.cache_control = given(part.cache_control)
    made[#made + 1] = block.text ~= "" and block or nil
  end
  return made
end

-- `thinking_blocks`, and `thinking` and `output_config` of a request, come with requests of the Messages API
-- (tenantgate.llm.formats).
local function assistant(message)
  local made, content = {}, given(message.content)
  for _, block in ipairs(given(message.thinking_blocks) or {}) do
    made[#made + 1] = block
  end
  if content and parts.text(content) ~= "" then
    for _, block in ipairs(blocks(content)) do
      made[#made + 1] = block
    end
  end
  for _, call in ipairs(given(message.tool_calls) or {}) do
    local called = call["function"]
    made[#made + 1] = {
      type = "tool_use", id = call.id, name = called.name, input = parts.arguments(called.arguments),
    }
  end
  return made
end

local function messages(request)
  local made, system = {}, {}
  for _, message in ipairs(request.messages) do
    local role = message.role
    if role == "system" or role == "developer" then
      for _, block in ipairs(blocks(message.content)) do
        system[#system + 1] = block
      end
    elseif role == "tool" then
      local said = blocks(message.content)
      local result = {type = "tool_result", tool_use_id = message.tool_call_id, content = #said > 0 and said or nil}
      -- The results of one turn's calls belong into one message.
      local last = made[#made]
      if last and last.results then
        last.content[#last.content + 1] = result
      else
        made[#made + 1] = {role = "user", content = {result}, results = true}
      end
    elseif role == "assistant" then
      local content = assistant(message)
      if #content > 0 then
        made[#made + 1] = {role = "assistant", content = content}
      end
    else
      local content = message.content
      made[#made + 1] = {role = "user", content = type(content) == "string" and content or blocks(content)}
    end
  end
  for _, message in ipairs(made) do
    message.results = nil
  end
  if #system == 1 and not system[1].cache_control then
    return made, system[1].text
  end
  return made, #system > 0 and system or nil
end

local CHOICES = {auto = {type = "auto"}, required = {type = "any"}, none = {type = "none"}}

local function tool_choice(request)
  local choice = given(request.tool_choice)
  local made
  if type(choice) == "string" then
    made = CHOICES[choice] and {type = CHOICES[choice].type}
  elseif type(choice) == "table" and type(choice["function"]) == "table" then
    made = {type = "tool", name = choice["function"].name}
  end
  if request.parallel_tool_calls == false then
    made = made or {type = "auto"}
    if made.type ~= "none" then
      made.disable_parallel_tool_use = true
    end
  end
  return made
end

-- The schema with all of its objects closed, which Anthropic wants of an output
-- (https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs).
local function closed(schema)
  if type(schema) ~= "table" then
    return schema
  end
  local made = setmetatable({}, getmetatable(schema))
  for name, value in pairs(schema) do
    made[name] = closed(value)
  end
  if made.type == "object" and given(made.additionalProperties) == nil then
    made.additionalProperties = false
  end
  return made
end

-- What an output must be like: `output_config` of a request of the Messages API, and `response_format` of a chat. For
-- JSON of any shape Anthropic has no word.
local function output_config(request)
  local made = given(request.output_config)
  local format = given(request.response_format)
  local schema = type(format) == "table" and format.type == "json_schema" and given(format.json_schema)
  schema = type(schema) == "table" and given(schema.schema)
  if not schema then
    return made
  end
  made = made or {}
  return {effort = made.effort, format = made.format or {type = "json_schema", schema = closed(schema)}}
end

function M.request(request, model)
  local options = model.options or {}
  local made = {
    model = model.name or request.model,
    max_tokens = parts.max_tokens(request, options) or MAX_TOKENS,
    temperature = options.temperature or given(request.temperature),
    top_p = options.top_p or given(request.top_p),
    top_k = options.top_k or given(request.top_k),
    stop_sequences = parts.stops(request),
    stream = request.stream or false,
    thinking = given(request.thinking),
    output_config = output_config(request),
  }
  made.messages, made.system = messages(request)
  local user = given(request.user)
  if type(user) == "string" then
    made.metadata = {user_id = user}
  end
  for i, called in ipairs(parts.functions(request) or {}) do
    made.tools = made.tools or {}
    made.tools[i] = {
      name = called.name,
      description = given(called.description),
      input_schema = given(called.parameters) or {type = "object"},
      cache_control = given(called.cache_control),
    }
  end
  if made.tools then
    made.tool_choice = tool_choice(request)
  end
  return made
end

-- Anthropic counts tokens of the prompt cache apart (https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching).
local function usage(counts)
  local cached, written = counts.cache_read_input_tokens or 0, counts.cache_creation_input_tokens or 0
  local prompt = (counts.input_tokens or 0) + cached + written
  return parts.usage(prompt, counts.output_tokens or 0, cached, written)
end

function M.reply(text, model, note)
  local reply = cjson.decode_with_array_mt(text)
  if type(reply) ~= "table" or type(reply.content) ~= "table" then
    return nil, "'content' not in anthropic://llm/v1/chat response"
  end
  local texts, calls, thoughts = {}, {}, {}
  for _, block in ipairs(reply.content) do
    if block.type == "text" then
      texts[#texts + 1] = block.text
    elseif block.type == "tool_use" then
      local called = {name = block.name, arguments = cjson.encode(block.input or {})}
      calls[#calls + 1] = {id = block.id, type = "function", ["function"] = called}
    elseif block.type == "thinking" or block.type == "redacted_thinking" then
      thoughts[#thoughts + 1] = block
    end
  end
  local counts = note(reply.usage)
  return cjson.encode({
    id = reply.id,
    object = "chat.completion",
    created = ngx.time(),
    model = reply.model or model.name,
    choices = {{
      index = 0,
      message = {
        role = "assistant",
        content = #texts > 0 and table.concat(texts) or parts.null,
        tool_calls = #calls > 0 and calls or nil,
        thinking_blocks = #thoughts > 0 and thoughts or nil,
      },
      logprobs = parts.null,
      finish_reason = REASONS[reply.stop_reason] or "stop",
    }},
    usage = counts and usage(counts) or nil,
  })
end

local Stream = {}
Stream.__index = Stream

function M.stream(model, asked, note)
  return setmetatable({
    frames = frames.sse(), asked = asked, note = note, model = model.name, created = ngx.time(), calls = 0, call_of = {},
  }, Stream)
end

local EVENTS = {}

function EVENTS.message_start(stream, event)
  local message = event.message or {}
  stream.id, stream.model = message.id, message.model or stream.model
  stream.note(message.usage)
  return parts.chunk(stream, {role = "assistant", content = ""})
end

function EVENTS.content_block_start(stream, event)
  local block = event.content_block or {}
  if block.type == "tool_use" then
    stream.call_of[event.index] = stream.calls
    stream.calls = stream.calls + 1
    local called = {name = block.name, arguments = ""}
    local call = {index = stream.call_of[event.index], id = block.id, type = "function", ["function"] = called}
    return parts.chunk(stream, {tool_calls = {call}})
  elseif block.type == "text" and block.text ~= "" then
    return parts.chunk(stream, {content = block.text})
  elseif block.type == "redacted_thinking" then
    return parts.chunk(stream, {thinking_blocks = {block}})
  end
end

function EVENTS.content_block_delta(stream, event)
  local delta = event.delta or {}
  if delta.type == "text_delta" then
    return parts.chunk(stream, {content = delta.text})
  elseif delta.type == "thinking_delta" then
    return parts.chunk(stream, {reasoning_content = delta.thinking})
  elseif delta.type == "signature_delta" then
    return parts.chunk(stream, {reasoning_signature = delta.signature})
  elseif delta.type == "input_json_delta" and stream.call_of[event.index] then
    local call = {index = stream.call_of[event.index], ["function"] = {arguments = delta.partial_json}}
    return parts.chunk(stream, {tool_calls = {call}})
  end
end

function EVENTS.message_delta(stream, event)
  stream.counts = stream.note(event.usage)
  local reason = event.delta and given(event.delta.stop_reason)
  return reason and parts.chunk(stream, {}, REASONS[reason] or "stop")
end

function EVENTS.message_stop(stream)
  stream.note(nil, true)
  if stream.asked and stream.counts then
    return parts.chunk(stream, nil, nil, usage(stream.counts)), "[DONE]"
  end
  return "[DONE]"
end

EVENTS["error"] = function(_, event)
  local failure = event.error or {}
  return parts.failure(failure.message or "the provider failed", failure.type or "server_error")
end

function Stream:feed(piece)
  local chunks = {}
  for _, event in ipairs(self.frames:feed(piece)) do
    local data = cjson.decode_with_array_mt(event.data)
    local handle = type(data) == "table" and EVENTS[data.type]
    if handle then
      local first, second = handle(self, data)
      chunks[#chunks + 1] = first or nil
      chunks[#chunks + 1] = second
    end
  end
  return chunks
end

return M
