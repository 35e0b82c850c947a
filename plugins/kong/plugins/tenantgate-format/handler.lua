-- Replies and errors in the format of the request's path: what the gateway or a provider has answered in OpenAI's chat
-- shape becomes Anthropic's or that of the Responses API. After all others, post-function (-1000) included, which read
-- and replace replies in chat's shape.
local errors = require "kong.plugins.tenantgate-format.errors"
local json = require "kong.plugins.tenantgate-format.json"
local operation = require "kong.plugins.tenantgate-format.operation"
local paths = require "kong.plugins.tenantgate-format.paths"

local FORMATS = {
  messages = require "kong.plugins.tenantgate-format.messages",
  responses = require "kong.plugins.tenantgate-format.responses",
}
local UNREADABLE = '{"error":{"message":"The reply of the provider could not be read."}}'

local MAX_KEPT = 256 * 1024 -- bytes of a response's output that later requests may refer to

local Format = {PRIORITY = -1001, VERSION = "0.2.0"}

-- Tokens as ai-proxy counts them, where a provider's stream says nothing.
local function counted()
  local metrics = json.table_of(ngx.ctx.ai_llm_metrics)
  return {
    prompt_tokens = metrics.llm_prompt_tokens_count,
    completion_tokens = metrics.llm_completion_tokens_count,
  }
end

local function about(conf)
  local shared = kong.ctx.shared
  local request = json.table_of(json.decode(json.table_of(shared.tenantgate_request).body))
  return {
    id = ngx.var.kong_request_id or "",
    request_id = kong.response.get_header(conf.correlation_header),
    now = ngx.time(),
    -- What a client has packed only the engine has read.
    model = json.text_of(request.model) or json.text_of(json.table_of(shared.tenantgate_decision).model) or "",
    request = request,
    counted = counted,
    -- Takes the output of a response that is whole, for the log phase.
    keep = function(output)
      if json.table_of(shared.tenantgate_decision).keep_items ~= true or not output[1] then
        return
      end
      local text = json.encode(output)
      shared.tenantgate_items = text and #text <= MAX_KEPT and text or nil
    end,
    stop_reason = function()
      return json.text_of(shared.tenantgate_finish_reason)
    end,
  }
end

local function error_body(format, status, body, id)
  return json.encode(errors["of_" .. format](status, body, id))
end

-- A function for the pieces of a body that is translated as a whole.
local function gathering(translate)
  local pieces = {}
  return function(piece, last)
    pieces[#pieces + 1] = piece
    return last and translate(table.concat(pieces)) or ""
  end
end

function Format:header_filter(conf)
  if not conf.only_unrouted then
    operation.head()
  end
  local format = paths.format_of(kong.request.get_path())
  local kind = kong.response.get_header("Content-Type") or ""
  if not format or (conf.only_unrouted and kong.router.get_route()) or kong.response.get_header("Content-Encoding") then
    return
  end
  local context, status = about(conf), kong.response.get_status()
  if context.request_id and format == "messages" then
    kong.response.set_header("request-id", context.request_id)
  end
  local translate
  if status >= 400 then
    translate = gathering(function(body)
      return error_body(format, status, body, context.request_id)
    end)
    kong.response.set_header("Content-Type", "application/json")
  elseif kind:find("text/event-stream", 1, true) then
    translate = FORMATS[format].stream(context)
  elseif not kong.request.get_path():find("/count_tokens$") then
    translate = gathering(function(body)
      return FORMATS[format].whole(body, context) or error_body(format, 502, UNREADABLE, context.request_id)
    end)
  end
  if translate then
    kong.response.clear_header("Content-Length")
    kong.ctx.plugin.translate = translate
  end
end

function Format:body_filter()
  local translate = kong.ctx.plugin.translate
  if translate then
    ngx.arg[1] = translate(ngx.arg[1], ngx.arg[2])
  end
end

return Format
