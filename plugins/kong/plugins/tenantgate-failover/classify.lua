-- How a try at a provider ended: "ok", a class of failure (FAILURES in tenantgate/policy/core/records.py) or
-- "http_NNN". Pure.
local M = {}

local STATUSES = {[401] = true, [403] = true, [408] = true, [429] = true, [500] = true, [502] = true, [503] = true,
  [504] = true, [529] = true}

-- Statuses under which providers say that a prompt is too long; others' bodies needn't be read for it.
local TOO_LONG_STATUSES = {[400] = true, [413] = true, [422] = true}

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

-- `error.type` of an error that comes as a stream's first event, under status 200.
local EVENTS = {overloaded_error = "http_529", rate_limit_error = "http_429", authentication_error = "http_401",
  permission_error = "http_403", timeout_error = "http_504"}

-- Whether it depends on the body how a reply with this status is classified.
function M.needs_body(status)
  return TOO_LONG_STATUSES[status] or false
end

-- Class of a reply by its status; `body`: its beginning, plain text, where `needs_body`.
function M.reply(status, body)
  if status >= 200 and status < 300 then
    return "ok"
  end
  if STATUSES[status] then
    return "http_" .. status
  end
  if TOO_LONG_STATUSES[status] and body then
    local text = body:sub(1, MAX_READ):lower()
    for _, pattern in ipairs(TOO_LONG) do
      if text:find(pattern) then
        return "context_length"
      end
    end
  end
  return "http_" .. status
end

-- Class of a stream by its first bytes: "ok", or that of an error that is its first event.
function M.first_event(bytes)
  local text = bytes:sub(1, MAX_READ)
  if text:find("^%s*event:%s*error[\r\n]") or text:find('^%s*data:%s*{%s*"error"%s*:%s*[{"]') then
    local _, _, kind = text:find('"type"%s*:%s*"([%w_]+_error)"')
    return EVENTS[kind] or "http_500"
  end
  return "ok"
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
