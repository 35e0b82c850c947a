-- OpenAI's chat replies as those of Anthropic's Messages API, whole and streamed. Pure.
-- https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/docs/build-with-claude/streaming
local errors = require "kong.plugins.tenantgate-format.errors"
local json = require "kong.plugins.tenantgate-format.json"
local sse = require "kong.plugins.tenantgate-format.sse"
local usage = require "kong.plugins.tenantgate-format.usage"

local table_of, text_of = json.table_of, json.text_of

-- By OpenAI's reasons, Gemini's and Anthropic's own, which Kong's drivers leave as they are, in lower case.
local STOP_REASONS = {
  stop = "end_turn",
  length = "max_tokens",
  max_tokens = "max_tokens",
  tool_calls = "tool_use",
  function_call = "tool_use",
  content_filter = "refusal",
  safety = "refusal",
  end_turn = "end_turn",
  stop_sequence = "stop_sequence",
  tool_use = "tool_use",
  pause_turn = "pause_turn",
  refusal = "refusal",
  model_context_window_exceeded = "model_context_window_exceeded",
}

local function stop_reason(reason, has_tools, refused)
  local found = STOP_REASONS[(reason or ""):lower()] or "end_turn"
  if refused then
    return "refusal"
  elseif has_tools and found == "end_turn" then
    return "tool_use" -- several providers say `stop` for tool calls, too
  end
  return found
end

local function identifier(id, fallback)
  id = text_of(id) or fallback
  return id:find("^msg_") and id or "msg_" .. id
end

local function head(chunk, about)
  return {
    id = identifier(chunk.id, about.id),
    type = "message",
    role = "assistant",
    model = text_of(chunk.model) or about.model,
    content = json.list(),
    stop_reason = json.null,
    stop_sequence = json.null,
  }
end

-- A tool's input is an object there and a text here. A text that isn't one stays readable.
local function input(arguments)
  arguments = text_of(arguments) or "{}"
  if arguments:find("^%s*{") and json.decode(arguments) then
    return arguments
  end
  return json.encode({arguments = arguments})
end

local function wants_thinking(about)
  local kind = table_of(about.request.thinking).type
  return type(kind) == "string" and kind ~= "disabled"
end

local function thought(from)
  return text_of(from.reasoning_content) or text_of(from.reasoning)
end

-- Thinking blocks of a whole message: Anthropic's own, which it wants back as they are, or another provider's text.
local function thoughts(message)
  local own, text = table_of(message.thinking_blocks), thought(message)
  if own[1] or not text then
    return own
  end
  return {{type = "thinking", thinking = text, signature = ""}}
end

local M = {}

-- The reply as JSON; nil for a text that is no chat completion. `about`: id, model and request (the client's body) of
-- this exchange, and counted() (tokens by ai-proxy).
function M.whole(body, about)
  local reply = json.decode(body)
  local choice = reply and table_of(table_of(reply.choices)[1])
  if not choice or type(choice.message) ~= "table" then
    return nil
  end
  local message, blocks, calls = choice.message, {}, table_of(choice.message.tool_calls)
  local refused = text_of(message.refusal)
  for _, block in ipairs(wants_thinking(about) and thoughts(message) or {}) do
    blocks[#blocks + 1] = json.encode(block)
  end
  for _, text in ipairs({text_of(message.content) or false, refused or false}) do
    if text then
      blocks[#blocks + 1] = json.encode({type = "text", text = text})
    end
  end
  for i, call in ipairs(calls) do
    local called = table_of(call["function"])
    -- Put together by hand: the input as the model has written it, no number of it rounded.
    blocks[#blocks + 1] = ('{"type":"tool_use","id":%s,"name":%s,"input":%s}'):format(
      json.encode(text_of(call.id) or "toolu_" .. about.id .. i), json.encode(text_of(called.name) or ""),
      input(called.arguments))
  end
  local made = head(reply, about)
  made.stop_reason = stop_reason(text_of(choice.finish_reason), calls[1] ~= nil, refused ~= nil)
  made.stop_sequence = text_of(choice.stop_reason) or json.null -- vLLM names it
  if made.stop_sequence ~= json.null and made.stop_reason == "end_turn" then
    made.stop_reason = "stop_sequence"
  end
  made.usage = usage.of_messages(usage.read(reply.usage, about.counted()))
  made.content = nil
  return json.encode(made):sub(1, -2) .. ',"content":[' .. table.concat(blocks, ",") .. "]}"
end

-- Blocks of a stream follow one another, while the parts of a chat's chunk may alternate. So one block is sent as it
-- comes, and what belongs to others meanwhile waits until it is complete.
local Blocks = {}
Blocks.__index = Blocks

local STARTS = {
  text = function()
    return {type = "text", text = ""}
  end,
  thinking = function()
    return {type = "thinking", thinking = "", signature = ""}
  end,
  redacted_thinking = function(block)
    return {type = "redacted_thinking", data = block.data}
  end,
  tool_use = function(block)
    -- An empty table is an object.
    return {type = "tool_use", id = block.id, name = block.name, input = {}}
  end,
}
local DELTAS = {
  text = function(text)
    return {type = "text_delta", text = text}
  end,
  thinking = function(text)
    return {type = "thinking_delta", thinking = text}
  end,
  tool_use = function(text)
    return {type = "input_json_delta", partial_json = text}
  end,
}

function Blocks:open(block)
  self.all[#self.all + 1] = block
  block.waiting = {}
  if self.current == nil then
    self:start(block)
  end
  return block
end

function Blocks:start(block)
  self.current, self.index = block, self.index + 1
  self.send({type = "content_block_start", index = self.index, content_block = STARTS[block.kind](block)})
  if block.waiting[1] then
    self:delta(block, table.concat(block.waiting))
  end
  block.waiting = {}
end

function Blocks:delta(block, text)
  if block == self.current then
    self.send({type = "content_block_delta", index = self.index, delta = DELTAS[block.kind](text)})
  else
    block.waiting[#block.waiting + 1] = text
  end
end

-- Text goes on in the block before, if that is one of this kind; no text follows in an older one.
function Blocks:text(kind, text)
  local last = self.all[#self.all]
  if not last or last.kind ~= kind then
    if self.current and self.current.kind ~= "tool_use" then
      self:stop()
    end
    last = self:open({kind = kind})
  end
  self:delta(last, text)
end

-- What only Anthropic's chunks have: the signature of the thought before, and thoughts that can't be read.
function Blocks:signed(delta)
  local signature = text_of(delta.reasoning_signature)
  if signature and self.current and self.current.kind == "thinking" then
    self.send({type = "content_block_delta", index = self.index,
      delta = {type = "signature_delta", signature = signature}})
    self:stop()
  end
  for _, block in ipairs(table_of(delta.thinking_blocks)) do
    if block.type == "redacted_thinking" and text_of(block.data) then
      if self.current and self.current.kind ~= "tool_use" then
        self:stop()
      end
      self:open({kind = "redacted_thinking", data = block.data})
    end
  end
end

function Blocks:call(call, about)
  local called, index = table_of(call["function"]), tonumber(call.index) or self.last_call or 0
  self.last_call = index
  local block = self.calls[index]
  if not block then
    if self.current and self.current.kind ~= "tool_use" then
      self:stop()
    end
    local id = text_of(call.id) or "toolu_" .. about.id .. index
    block = self:open({kind = "tool_use", id = id, name = text_of(called.name) or ""})
    self.calls[index] = block
  end
  if text_of(called.arguments) then
    self:delta(block, called.arguments)
  end
end

function Blocks:stop()
  self.send({type = "content_block_stop", index = self.index})
  table.remove(self.all, 1)
  self.current = nil
  if self.all[1] then
    self:start(self.all[1])
  end
end

function Blocks:finish()
  while self.current do
    self:stop()
  end
end

-- A function that takes the next piece of a chat's stream and whether it is the last one; it returns the events that
-- come of it. `about` as above; about.stop_reason() may know the reason where the chunks don't say it.
function M.stream(about)
  local out, state, thinks = {}, {}, wants_thinking(about)

  local function send(event)
    out[#out + 1] = sse.event(event)
  end

  local blocks = setmetatable({all = {}, calls = {}, index = -1, send = send}, Blocks)

  local function start(chunk)
    if not state.started then
      state.started = true
      local message = head(chunk, about)
      message.usage = usage.of_messages(usage.read())
      send({type = "message_start", message = message})
    end
  end

  local function fail(status, body)
    state.ended = true
    send(errors.of_messages(status, body, about.request_id))
  end

  local function finish()
    local reason = state.reason or about.stop_reason()
    if not reason and not state.done then
      return fail(502, '{"error":{"message":"The reply broke off before its end."}}')
    end
    state.ended = true
    start({})
    local has_tools = next(blocks.calls) ~= nil
    blocks:finish()
    local delta = {stop_reason = stop_reason(reason, has_tools, state.refused), stop_sequence = json.null}
    if state.stop_sequence and delta.stop_reason == "end_turn" then
      delta.stop_reason, delta.stop_sequence = "stop_sequence", state.stop_sequence
    end
    local counts = usage.read(state.usage, about.counted())
    send({type = "message_delta", delta = delta, usage = usage.of_messages(counts)})
    send({type = "message_stop"})
  end

  local function chunk(data)
    if state.ended then
      return
    elseif data == "[DONE]" then
      state.done = true
      return finish()
    end
    local value = json.decode(data)
    if not value then
      return
    elseif value.error ~= nil and value.error ~= json.null then
      return fail(tonumber(table_of(value.error).status) or 502, data)
    end
    start(value)
    state.usage = type(value.usage) == "table" and value.usage or state.usage
    local choice = table_of(table_of(value.choices)[1])
    local delta = table_of(choice.delta)
    if thinks and thought(delta) then
      blocks:text("thinking", thought(delta))
    end
    if thinks then
      blocks:signed(delta)
    end
    for _, name in ipairs({"content", "refusal"}) do
      if text_of(delta[name]) then
        state.refused = state.refused or name == "refusal"
        blocks:text("text", delta[name])
      end
    end
    for _, call in ipairs(table_of(delta.tool_calls)) do
      blocks:call(table_of(call), about)
    end
    state.reason = text_of(choice.finish_reason) or state.reason
    state.stop_sequence = text_of(choice.stop_reason) or state.stop_sequence
  end

  local read = sse.reader(chunk)
  return function(piece, last)
    out = {}
    read(piece, last)
    if last and not state.ended then
      finish()
    end
    return table.concat(out)
  end
end

return M
