-- Replies of operations that ai-proxy passes through (`route_type: preserve`), mended where it takes them for a chat's.
local ai_ctx = require "kong.llm.plugin.ctx"
local json = require "kong.plugins.tenantgate-format.json"

local BALANCE = "ai-proxy-advanced-balance"
local UNREADABLE = '{"error":{"message":"The provider could not be reached, or its answer was not valid.",' ..
  '"type":"server_error","param":null,"code":"bad_gateway"}}'

local M = {}

-- header_filter. After ai-proxy's own: it reads every whole reply as JSON when it logs it, and breaks off the connection
-- where that isn't any; a stream's type it takes for granted; and it knows no cost.
function M.head()
  if kong.response.get_source() ~= "service" or not ai_ctx.get_namespaced_ctx("_global", "preserve_mode") then
    return
  end
  if ai_ctx.get_namespaced_ctx("_global", "stream_mode") then
    local plan = ngx.ctx.tenantgate_plan
    if not (plan and plan.refused) then
      kong.response.set_header("Content-Type", kong.service.response.get_header("Content-Type"))
    end
    return
  end
  local body = ai_ctx.get_namespaced_ctx("_global", "response_body")
  if body and type(json.decode(body)) ~= "table" then
    if kong.response.get_status() < 400 then
      kong.response.set_status(502)
    end
    kong.response.set_header("Content-Type", "application/json")
    kong.response.clear_header("Content-Length")
    ai_ctx.set_namespaced_ctx("_global", "response_body", UNREADABLE)
  end
  local target = json.table_of(ai_ctx.get_namespaced_ctx(BALANCE, "selected_target"))
  local options, metrics = json.table_of(json.table_of(target.model).options), ngx.ctx.ai_llm_metrics
  if metrics then
    local function count(name)
      return type(metrics[name]) == "number" and metrics[name] or 0
    end
    metrics.llm_usage_cost = (count("llm_prompt_tokens_count") * (options.input_cost or 0) +
      count("llm_completion_tokens_count") * (options.output_cost or 0)) / 1000000
  end
end

return M
