-- Errors in each format's own shape.
-- https://docs.anthropic.com/en/api/errors, https://platform.openai.com/docs/guides/error-codes
local json = require "kong.plugins.tenantgate-format.json"

local KINDS = {
  [400] = "invalid_request_error",
  [401] = "authentication_error",
  [402] = "billing_error",
  [403] = "permission_error",
  [404] = "not_found_error",
  [408] = "timeout_error",
  [413] = "request_too_large",
  [429] = "rate_limit_error",
  [503] = "overloaded_error",
  [504] = "timeout_error",
  [529] = "overloaded_error",
}
local DETAILS = {"code", "param", "rules"}
-- Anthropic's SDKs let their tool runner try a conversation that the server keeps, and go on without one if told this.
local NO_THREAD = {error_code = "thread_unsupported_request", unsupported = {"thread"}}
local NO_TEXT = "The request failed."

local M = {}

-- Anthropic's type of an error with this status.
function M.kind(status)
  return KINDS[status] or (status >= 500 and "api_error" or "invalid_request_error")
end

-- The error in a body of any provider or of the gateway: its message, its type and the object itself.
local function read(body)
  local value = json.table_of(json.decode(body))
  -- Gemini's errors may come in a list.
  local error = json.table_of(value[1] or value).error
  if type(error) == "string" then
    return error, nil, {}
  end
  error = json.table_of(error)
  return json.text_of(error.message) or json.text_of(value.message) or NO_TEXT, json.text_of(error.type), error
end

-- Anthropic's error object. The gateway's own details stay in it: by `code` applications tell errors apart.
function M.of_messages(status, body, id)
  local message, kind, error = read(body)
  if json.table_of(json.decode(body)).type ~= "error" then
    kind = M.kind(status)
  end
  local made = {type = kind or M.kind(status), message = message}
  for _, name in ipairs(DETAILS) do
    if error[name] ~= json.null then
      made[name] = error[name]
    end
  end
  if made.param == "thread" then
    made.details = NO_THREAD
  end
  return {type = "error", error = made, request_id = id}
end

-- OpenAI's error object, which most errors are already.
function M.of_responses(status, body)
  local message, kind, error = read(body)
  local made = {
    message = message,
    type = kind or (status >= 500 and "server_error" or "invalid_request_error"),
    param = error.param or json.null,
    code = error.code or json.null,
  }
  for _, name in ipairs({"request_id", "rules"}) do
    made[name] = error[name]
  end
  return {error = made}
end

return M
