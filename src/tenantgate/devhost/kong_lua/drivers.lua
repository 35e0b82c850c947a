-- ai-proxy's drivers (kong/llm/drivers/*.lua) as modules, for plugins that put functions of their own in their place. The
-- host's own are in Python; it asks the ones here for models whose options hold `tenantgate`.
local call = ...

local PROVIDERS = {"anthropic", "azure", "bedrock", "mistral", "openai"}
local CHAT = "llm/v1/chat"

local function absent()
  return nil, "the embedded host has this in Python only"
end

for _, provider in ipairs(PROVIDERS) do
  package.preload["kong.llm.drivers." .. provider] = function()
    return {to_format = absent, from_format = absent, configure_request = absent}
  end
end

package.preload["kong.llm.drivers.shared"] = function()
  return {frame_to_events = absent}
end

package.preload["kong.llm.plugin.observability"] = function()
  return {
    metrics_set = function(name, value)
      call("ai.metrics_set", name, value)
      return value
    end,
  }
end

local M = {}

function M.to_format(provider, request, model)
  local body, _, err = require("kong.llm.drivers." .. provider).to_format(request, model, CHAT)
  return {body = body, err = err}
end

function M.from_format(provider, reply, model)
  local text, err = require("kong.llm.drivers." .. provider).from_format(reply, model, CHAT)
  return {text = text, err = err}
end

-- The chunks for the client, nil where no plugin reads the stream.
function M.chunks(piece, content_type)
  local events = require("kong.llm.drivers.shared").frame_to_events(piece, content_type)
  if not events then
    return nil
  end
  local chunks = {}
  for i, event in ipairs(events) do
    chunks[i] = event.data
  end
  return chunks
end

return M
