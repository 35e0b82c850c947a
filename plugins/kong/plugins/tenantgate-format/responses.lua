-- OpenAI's chat replies as those of its Responses API, whole and streamed. Pure.
-- https://platform.openai.com/docs/api-reference/responses, …/responses-streaming
local errors = require "kong.plugins.tenantgate-format.errors"
local json = require "kong.plugins.tenantgate-format.json"
local sse = require "kong.plugins.tenantgate-format.sse"
local usage = require "kong.plugins.tenantgate-format.usage"

local table_of, text_of = json.table_of, json.text_of

-- Why a reply is incomplete, by the reasons of OpenAI, Anthropic and Gemini in lower case.
local INCOMPLETE = {
  length = "max_output_tokens",
  max_tokens = "max_output_tokens",
  model_context_window_exceeded = "max_output_tokens",
  content_filter = "content_filter",
  safety = "content_filter",
  refusal = "content_filter",
}

-- What a response repeats of its request, and what stands there if that says nothing.
local ECHOED = {
  instructions = json.null,
  max_output_tokens = json.null,
  metadata = {},
  parallel_tool_calls = true,
  reasoning = {effort = json.null, summary = json.null},
  temperature = 1,
  text = {format = {type = "text"}},
  tool_choice = "auto",
  tools = json.list(),
  top_p = 1,
  truncation = "disabled",
  user = json.null,
}

local function thought(from)
  return text_of(from.reasoning_content) or text_of(from.reasoning)
end

local function wants_summary(about)
  local reasoning = table_of(about.request.reasoning)
  return text_of(reasoning.summary) ~= nil or text_of(reasoning.generate_summary) ~= nil
end

-- Name and namespace of a function, from its name in the chat.
local function name_of(called, about)
  local full = text_of(called.name) or ""
  for _, space in ipairs(table_of(about.request.tools)) do
    space = table_of(space)
    for _, tool in ipairs(space.type == "namespace" and table_of(space.tools) or {}) do
      local name = text_of(table_of(tool).name)
      if name and text_of(space.name) and space.name .. "__" .. name == full then
        return name, space.name
      end
    end
  end
  return full
end

local function identifier(prefix, id)
  return id:find("^" .. prefix) and id or prefix .. id
end

-- A response without output, in progress.
local function head(chunk, about)
  local made = {
    id = identifier("resp_", text_of(chunk.id) or about.id),
    object = "response",
    created_at = type(chunk.created) == "number" and chunk.created or about.now,
    status = "in_progress",
    background = false,
    error = json.null,
    incomplete_details = json.null,
    model = text_of(chunk.model) or about.model,
    output = json.list(),
    previous_response_id = json.null,
    store = false,
    usage = json.null,
  }
  for name, default in pairs(ECHOED) do
    local value = about.request[name]
    made[name] = (value == nil or value == json.null) and default or value
  end
  if about.request.parallel_tool_calls == false then
    made.parallel_tool_calls = false
  end
  return made
end

local function ended(response, reason)
  local why = INCOMPLETE[(reason or ""):lower()]
  response.status = why and "incomplete" or "completed"
  response.incomplete_details = why and {reason = why} or json.null
  return response
end

-- Items of the output. `status` is that of the item.
local ITEMS = {
  message = function(item, status)
    return {id = item.id, type = "message", role = "assistant", status = status, content = json.list(item.content)}
  end,
  reasoning = function(item)
    return {id = item.id, type = "reasoning", summary = json.list(item.content)}
  end,
  function_call = function(item, status)
    return {id = item.id, type = "function_call", status = status, call_id = item.call_id, name = item.name,
      namespace = item.namespace, arguments = item.arguments}
  end,
}

local function text_part(text)
  return {type = "output_text", text = text, annotations = json.list(), logprobs = json.list()}
end

local PARTS = {
  output_text = text_part,
  refusal = function(text)
    return {type = "refusal", refusal = text}
  end,
  summary_text = function(text)
    return {type = "summary_text", text = text}
  end,
}

local M = {}

-- The reply as JSON; nil for a text that is no chat completion. `about` as in messages.lua, now in Unix
-- seconds, and keep, which takes the whole output.
function M.whole(body, about)
  local reply = json.decode(body)
  local choice = reply and table_of(table_of(reply.choices)[1])
  if not choice or type(choice.message) ~= "table" then
    return nil
  end
  local message, response, reason = choice.message, head(reply, about), text_of(choice.finish_reason)
  ended(response, reason)
  local output = response.output
  local thinking = wants_summary(about) and thought(message)
  if thinking then
    output[1] = ITEMS.reasoning({id = identifier("rs_", about.id), content = {PARTS.summary_text(thinking)}})
  end
  local parts = {}
  if text_of(message.content) then
    parts[#parts + 1] = PARTS.output_text(message.content)
  end
  if text_of(message.refusal) then
    parts[#parts + 1] = PARTS.refusal(message.refusal)
  end
  if parts[1] then
    output[#output + 1] = ITEMS.message({id = identifier("msg_", about.id), content = parts}, response.status)
  end
  for i, call in ipairs(table_of(message.tool_calls)) do
    local called = table_of(call["function"])
    local name, namespace = name_of(called, about)
    output[#output + 1] = ITEMS.function_call({
      id = identifier("fc_", about.id) .. "_" .. i,
      call_id = text_of(call.id) or "call_" .. about.id .. i,
      name = name,
      namespace = namespace,
      arguments = text_of(called.arguments) or "{}",
    }, "completed")
  end
  response.usage = usage.of_responses(usage.read(reply.usage, about.counted()))
  about.keep(output)
  return json.encode(response)
end

-- The output of a stream, item by item.
local Output = {}
Output.__index = Output

function Output:open(item)
  item.index = #self.items
  item.content = {}
  self.items[#self.items + 1] = item
  item.id = item.prefix .. self.about.id .. (item.index > 0 and "_" .. item.index or "")
  self.send({type = "response.output_item.added", output_index = item.index,
    item = ITEMS[item.kind](item, "in_progress")})
  return item
end

local PART_EVENTS = {
  output_text = {"response.content_part", "response.output_text", "content_index"},
  refusal = {"response.content_part", "response.refusal", "content_index"},
  summary_text = {"response.reasoning_summary_part", "response.reasoning_summary_text", "summary_index"},
}

function Output:about_part(part, kind, more)
  local events = PART_EVENTS[part.kind]
  more.type, more.item_id, more.output_index = events[kind], part.item.id, part.item.index
  more[events[3]] = part.index
  return more
end

function Output:close_part()
  local part = self.part
  if not part then
    return
  end
  self.part = nil
  local text = table.concat(part.pieces)
  local made = PARTS[part.kind](text)
  part.item.content[part.index + 1] = made
  local done = self:about_part(part, 2, part.kind == "refusal" and {refusal = text} or {text = text})
  done.type = done.type .. ".done"
  done.logprobs = part.kind == "output_text" and json.list() or nil
  self.send(done)
  done = self:about_part(part, 1, {part = made})
  done.type = done.type .. ".done"
  self.send(done)
end

function Output:close_item()
  self:close_part()
  local item = self.item
  self.item = nil
  if item then
    self:done(item)
  end
end

function Output:done(item)
  item.made = ITEMS[item.kind](item, item.status or "completed")
  self.send({type = "response.output_item.done", output_index = item.index, item = item.made})
end

function Output:text(kind, part_kind, text)
  if not self.item or self.item.kind ~= kind then
    self:close_item()
    self.item = self:open({kind = kind, prefix = kind == "message" and "msg_" or "rs_"})
  end
  if not self.part or self.part.kind ~= part_kind then
    self:close_part()
    self.part = {kind = part_kind, item = self.item, index = #self.item.content, pieces = {}}
    local added = self:about_part(self.part, 1, {part = PARTS[part_kind]("")})
    added.type = added.type .. ".added"
    self.send(added)
  end
  self.part.pieces[#self.part.pieces + 1] = text
  local delta = self:about_part(self.part, 2, {delta = text})
  delta.type = delta.type .. ".delta"
  delta.logprobs = part_kind == "output_text" and json.list() or nil
  self.send(delta)
end

function Output:call(call)
  local called, index = table_of(call["function"]), tonumber(call.index) or self.last_call or 0
  self.last_call = index
  local item = self.calls[index]
  if not item then
    self:close_item()
    local name, namespace = name_of(called, self.about)
    item = self:open({
      kind = "function_call",
      prefix = "fc_",
      call_id = text_of(call.id) or "call_" .. self.about.id .. index,
      name = name,
      namespace = namespace,
      arguments = "",
    })
    self.calls[index] = item
    self.open_calls[#self.open_calls + 1] = item
    item.pieces = {}
  end
  if text_of(called.arguments) then
    item.pieces[#item.pieces + 1] = called.arguments
    self.send({type = "response.function_call_arguments.delta", item_id = item.id, output_index = item.index,
      delta = called.arguments})
  end
end

function Output:finish(status)
  if self.item then
    self.item.status = status
  end
  self:close_item()
  for _, item in ipairs(self.open_calls) do
    item.arguments = table.concat(item.pieces)
    if item.arguments == "" then
      item.arguments = "{}"
    end
    self.send({type = "response.function_call_arguments.done", item_id = item.id, output_index = item.index,
      name = item.name, arguments = item.arguments})
    self:done(item)
  end
  local made = json.list()
  for i, item in ipairs(self.items) do
    made[i] = item.made
  end
  return made
end

-- As messages.lua's.
function M.stream(about)
  local out, state, number, response = {}, {}, -1, nil

  local function send(event)
    number = number + 1
    event.sequence_number = number
    out[#out + 1] = sse.event(event)
  end

  local output = setmetatable({items = {}, calls = {}, open_calls = {}, about = about, send = send}, Output)
  local summarizes = wants_summary(about)

  local function start(chunk)
    if not response then
      response = head(chunk, about)
      send({type = "response.created", response = response})
      send({type = "response.in_progress", response = response})
    end
  end

  local function fail(status, body)
    state.ended = true
    local error = errors.of_responses(status, body).error
    start({})
    response.status = "failed"
    response.error = {code = error.code == json.null and "server_error" or error.code, message = error.message}
    send({type = "error", code = error.code, message = error.message, param = error.param})
    send({type = "response.failed", response = response})
  end

  local function finish()
    local reason = state.reason or about.stop_reason()
    if not reason and not state.done then
      return fail(502, '{"error":{"message":"The reply broke off before its end."}}')
    end
    state.ended = true
    start({})
    ended(response, reason)
    response.output = output:finish(response.status)
    about.keep(response.output)
    response.usage = usage.of_responses(usage.read(state.usage, about.counted()))
    send({type = "response." .. response.status, response = response})
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
      return fail(502, data)
    end
    start(value)
    state.usage = type(value.usage) == "table" and value.usage or state.usage
    local choice = table_of(table_of(value.choices)[1])
    local delta = table_of(choice.delta)
    if summarizes and thought(delta) then
      output:text("reasoning", "summary_text", thought(delta))
    end
    if text_of(delta.content) then
      output:text("message", "output_text", delta.content)
    end
    if text_of(delta.refusal) then
      output:text("message", "refusal", delta.refusal)
    end
    for _, call in ipairs(table_of(delta.tool_calls)) do
      output:call(table_of(call))
    end
    state.reason = text_of(choice.finish_reason) or state.reason
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
