-- ai-proxy's filters of replies (kong/llm/plugin/shared-filters), which take replies for what they should be: where one
-- isn't, they raise, and nginx breaks the client's connection off without an answer. Here such a reply becomes an error.
local ctx = require "kong.llm.plugin.ctx"
local metrics = require "kong.llm.plugin.observability"

local NOTHING = "{}"
local STREAM_ERROR = 'data: {"error":{"message":"The reply of the provider could not be read.","type":"server_error",' ..
  '"param":null,"code":"bad_gateway"}}\n\n'

-- Whether ai-proxy asks a target of ours.
local function is_ours()
  return ctx.get_namespaced_ctx("ai-proxy-advanced-balance", "selected_target") ~= nil
end

-- Replaces a filter's `run`; `mend` is what happens where it raises. The embedded host has none of these filters.
local function guarded(name, mend)
  local found, filter = pcall(require, "kong.llm.plugin.shared-filters." .. name)
  local run = found and type(filter) == "table" and rawget(filter, "run")
  if not run then
    return
  end
  filter.run = function(self, conf)
    local ran, result, err = pcall(run, self, conf)
    if ran or not is_ours() then
      return ran and result or error(result, 0), err
    end
    -- Its own words might be the provider's.
    kong.log.warn("a reply isn't what ai-proxy takes it for, in ", name)
    mend(run, self, conf)
    return true
  end
end

local function body()
  return ctx.get_namespaced_ctx("_global", "response_body")
end

local M = {}

function M.guard()
  -- A count that is no number is none.
  local set = metrics.metrics_set
  metrics.metrics_set = function(key, value)
    return type(value) == "number" and set(key, value) or 0
  end
  guarded("parse-json-response", function()
    if not body() then -- nothing, or nothing that could be unpacked
      ctx.set_namespaced_ctx("_global", "response_body", NOTHING)
    end
  end)
  -- Without a type it is read as events.
  guarded("normalize-response-header", function()
    kong.response.set_header("Content-Type", "text/event-stream")
  end)
  -- The model's name is looked for in what needn't be JSON, such as a proxy's page of an error.
  guarded("serialize-analytics", function(run, self, conf)
    local kept = body()
    if kept then
      ctx.set_namespaced_ctx("_global", "response_body", NOTHING)
      pcall(run, self, conf)
      ctx.set_namespaced_ctx("_global", "response_body", kept)
    end
  end)
  local function broken_off()
    ngx.arg[1], ngx.arg[2] = STREAM_ERROR, true
  end
  guarded("parse-sse-chunk", broken_off)
  guarded("normalize-sse-chunk", broken_off)
end

return M
