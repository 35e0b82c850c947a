-- How a try at a provider ended: "ok", a class of failure (FAILURES in tenantgate/policy/core/records.py) or
-- "http_NNN". Pure.
local frames = require "kong.plugins.tenantgate-target.frames"

local M = {}

local STATUSES = {[401] = true, [403] = true, [408] = true, [429] = true, [500] = true, [502] = true, [503] = true,
  [504] = true, [529] = true}

-- Statuses under which providers say that a prompt is too long; others' bodies needn't be read for it.
local TOO_LONG_STATUSES = {[400] = true, [413] = true, [422] = true}

-- OpenAI's 429 to a request that alone is above the limit of a minute: "Request too large for gpt-4o … on tokens per min".
local ABOVE_LIMIT = "request too large for "

-- What they say, in lower case. Patterns of Lua.
local TOO_LONG = {
  "context_length_exceeded", -- OpenAI, Azure
  "maximum context length", -- OpenAI, vLLM, Mistral ("too large for model with 32768 maximum context length")
  "prompt is too long", -- Anthropic
  "exceed context limit", -- Anthropic: "input length and `max_tokens` exceed context limit"
  "input token count.-exceeds the maximum number of tokens", -- Gemini, Vertex AI
  "input is too long for requested model", -- Bedrock
  "too many input tokens", -- Bedrock
  "too many tokens: ", -- Cohere
  "maximum prompt length is", -- xAI
  "exceed_context_size_error", -- llama.cpp
  "exceeds the available context size", -- llama.cpp
  "reduce the length of the messages", -- OpenAI, Groq
  "must have less than %d+ tokens", -- Hugging Face, Text Generation Inference
  "inputs tokens %+ max_new_tokens", -- the same
}
local MAX_READ = 16384

-- Kinds of an error that comes under status 200: `error.type` of OpenAI and Anthropic, Amazon's exceptions.
local KINDS = {
  authentication_error = 401, billing_error = 402, invalid_request_error = 400, not_found_error = 404,
  overloaded_error = 529, permission_error = 403, rate_limit_error = 429, request_too_large = 413, timeout_error = 504,
  throttlingexception = 429, serviceunavailableexception = 503, modeltimeoutexception = 504, validationexception = 400,
}

local function is_too_long(body)
  local text = body:sub(1, MAX_READ):lower()
  for _, pattern in ipairs(TOO_LONG) do
    if text:find(pattern) then
      return true
    end
  end
  return false
end

-- Whether it depends on the body how a reply with this status is classified.
function M.needs_body(status)
  return status == 429 or TOO_LONG_STATUSES[status] or false
end

-- Outcome of a reply by its status; `body`: plain text, where `needs_body`. And, where it is another one, the class by
-- which it is tried elsewhere: the request may be at fault with this target, of which others are to think no worse.
function M.reply(status, body)
  if status >= 200 and status < 300 then
    return "ok"
  end
  if status == 429 and body and body:sub(1, MAX_READ):lower():find(ABOVE_LIMIT, 1, true) then
    return "http_413", "http_429"
  elseif STATUSES[status] then
    return "http_" .. status
  end
  if TOO_LONG_STATUSES[status] and body then
    if is_too_long(body) then
      return "context_length"
    end
  end
  return "http_" .. status
end

-- Class of an error under status 200; `kind`: Amazon's name of it, or nil. What can't be told is the provider's fault.
local function error_class(text, kind)
  kind = kind or text:match('"type"%s*:%s*"([%w_]+_error)"') or text:match('"type"%s*:%s*"(request_too_large)"')
  local status = kind and KINDS[kind:lower()] or tonumber(text:match('"code"%s*:%s*"?([45]%d%d)%f[%D]')) or 500
  if status == 400 and is_too_long(text) then
    return "context_length"
  end
  return "http_" .. status
end

local function is_error(text)
  return text:find('^%s*{%s*"error"%s*:%s*[{"]') or text:find('^%s*{%s*"type"%s*:%s*"error"')
end

-- Class of a whole reply with status 200 that should be a JSON object: "ok", or that of the error that it is; nil where
-- it is no object, so nothing that a client could use. Well-formed or not, the next reader finds out.
function M.object(text)
  if not text:find("^%s*{") or not text:find("}%s*$") then
    return nil
  end
  return #text <= MAX_READ and is_error(text) and error_class(text) or "ok"
end

local function first_message(bytes)
  local read, messages = pcall(frames.aws().feed, frames.aws(), bytes)
  if not read then
    return nil, false
  end
  local message = messages[1]
  if not message then
    return nil, true
  end
  return message.failed and error_class(message.data, message.name) or "ok"
end

-- Class of a stream with status 200 by its beginning: "ok", or that of the error that comes first. Where that can't be
-- told: nil, and whether more bytes may tell. `kind`: the reply's Content-Type.
function M.first_event(bytes, kind)
  kind = (kind or ""):lower()
  if kind:find("application/vnd.amazon.eventstream", 1, true) == 1 then
    return first_message(bytes)
  end
  local text = bytes:gsub("^\239\187\191", "")
  local start = text:match("^%s*([^%s])")
  if not start then
    return nil, true
  elseif start == "{" then -- no stream
    if is_error(text) then
      return error_class(text)
    end
    if kind:find("application/json", 1, true) == 1 or kind:find("text/event-stream", 1, true) == 1 then
      return nil, #text < 16
    end
    return "ok" -- lines of JSON
  elseif start == "[" then -- Gemini
    local first = text:match("^%s*%[(.*)$")
    return is_error(first) and error_class(first) or "ok"
  end
  local events = frames.sse():feed(text)
  local event = events[1]
  if not event then
    if #text > MAX_READ then
      return "ok"
    end
    return nil, true
  end
  return (event.name == "error" or is_error(event.data)) and error_class(event.data) or "ok"
end

-- Class of a failure without a reply. `step`: "resolve", "connect", "tls" (nothing was sent), "send" or "receive"
-- (the provider may have done the work, and bill it).
function M.failure(step, problem)
  if step == "resolve" or step == "connect" or step == "tls" then
    return "error"
  end
  return problem == "timeout" and "timeout" or "reset"
end

return M
