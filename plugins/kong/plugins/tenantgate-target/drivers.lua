-- Formats of providers, in place of those of Kong's drivers (kong/llm/drivers) for targets that the engine has chosen:
-- their `model.options` hold `tenantgate`. Requests of other routes are Kong's as before. What the drivers lose is in
-- docs/providers.md, and why this is done by wrapping them in docs/decisions/0017-formats-in-place-of-kongs-drivers.md.
local ai_ctx = require "kong.llm.plugin.ctx"
local filters = require "kong.plugins.tenantgate-target.filters"
local metrics = require "kong.llm.plugin.observability"
local shared = require "kong.llm.drivers.shared"
local signing = require "kong.plugins.tenantgate-target.signing"

local CHAT, STREAM = "llm/v1/chat", "stream/llm/v1/chat"
local FORMAT_OF = {
  anthropic = "anthropic", azure = "openai", bedrock = "bedrock", mistral = "openai", openai = "openai",
}

-- Tokens of the prompt and of the completion, as a format counts them.
local TOTALS = {}

function TOTALS.openai(counts)
  return counts.prompt_tokens, counts.completion_tokens
end

-- Google's completion_tokens are without those of reasoning, its total_tokens with them.
function TOTALS.gemini(counts)
  local prompt, completion = counts.prompt_tokens, counts.completion_tokens
  return prompt, prompt and counts.total_tokens and math.max(completion or 0, counts.total_tokens - prompt) or completion
end

function TOTALS.anthropic(counts)
  local cached = (counts.cache_read_input_tokens or 0) + (counts.cache_creation_input_tokens or 0)
  return counts.input_tokens and counts.input_tokens + cached, counts.output_tokens
end

function TOTALS.bedrock(counts)
  local cached = (counts.cacheReadInputTokens or 0) + (counts.cacheWriteInputTokens or 0)
  return counts.inputTokens and counts.inputTokens + cached, counts.outputTokens
end

local function settings(model)
  return model and model.options and model.options.tenantgate
end

-- Numbers of `from`, one level deep: texts of a provider don't belong into a log.
local function merge(counts, from, deeper)
  for name, value in pairs(from) do
    if type(value) == "number" then
      counts[name] = value
    elseif type(value) == "table" and not deeper then
      counts[name] = merge(type(counts[name]) == "table" and counts[name] or {}, value, true)
    end
  end
  return counts
end

-- Keeps the usage that a reply names for the log, in kong.ctx.shared.tenantgate_usage. The last value of each count holds:
-- providers send growing ones, or the same again. Without a usage it only notes that a stream goes on or has ended.
local function keeper(format, provider, stream)
  local kept
  return function(usage, complete, chunks)
    if not kept then
      kept = {format = format, provider = provider, stream = stream, complete = not stream, chunks = 0}
      kong.ctx.shared.tenantgate_usage = kept
    end
    if type(usage) == "table" then
      kept.counts = merge(kept.counts or {}, usage)
      local prompt, completion = TOTALS[format](kept.counts)
      -- Kong's own log, metrics and cost would be guesses for streams.
      if prompt then
        metrics.metrics_set("llm_prompt_tokens_count", prompt)
      end
      if completion then
        metrics.metrics_set("llm_completion_tokens_count", completion)
      end
    end
    kept.complete = kept.complete or complete == true
    kept.chunks = kept.chunks + (chunks or 0)
    return kept.counts
  end
end

-- Reads the usage of a reply that was held back, and that ai-proxy doesn't see, since a guard has answered in its place.
local function counter(read)
  return function()
    local body = kong.service.response.get_raw_body()
    if kong.service.response.get_header("Content-Encoding") == "gzip" then
      body = require("kong.tools.gzip").inflate_gzip(body)
    end
    return read(body)
  end
end

local function failure(err, otherwise)
  -- An error of Lua's own names a place, and tells the client nothing.
  return type(err) == "string" and not err:find("%.lua:%d+:") and err or otherwise
end

-- Whether the client wants the usage of its stream.
local function asks_usage(request)
  local options = request.stream_options
  return type(options) == "table" and options.include_usage == true
end

local function wrap(name)
  local driver = require("kong.llm.drivers." .. name)
  local format = require("kong.plugins.tenantgate-target.formats." .. FORMAT_OF[name])
  local to_format, from_format = driver.to_format, driver.from_format

  driver.to_format = function(request, model, route_type)
    local ours = settings(model)
    if not ours or route_type ~= CHAT then
      return to_format(request, model, route_type)
    end
    local label = ours.counts or FORMAT_OF[name]
    local reader
    if request.stream == true then
      local note = keeper(label, ours.provider, true)
      reader = {types = format.content_types, note = note, stream = format.stream(model, asks_usage(request), note)}
      -- ai-proxy unpacks each piece of a stream by itself.
      kong.service.request.set_header("Accept-Encoding", "identity")
    end
    kong.ctx.shared.tenantgate_stream = reader
    kong.ctx.shared.tenantgate_count = counter(function(reply)
      if reader then
        return reader.stream:feed(reply)
      end
      return format.reply(reply, model, keeper(label, ours.provider, false))
    end)
    -- For the guard of replies, which may answer in the provider's place.
    kong.ctx.shared.tenantgate_usage_hidden = reader ~= nil and not asks_usage(request)
    local made, body = pcall(format.request, request, model, ours)
    if not made then
      return nil, nil, failure(body, ("error transforming to %s://%s"):format(name, route_type))
    end
    return body, "application/json"
  end

  driver.from_format = function(reply, model, route_type)
    local ours = settings(model)
    if route_type == CHAT and ours then
      local note = keeper(ours.counts or FORMAT_OF[name], ours.provider, false)
      local made, text, err = pcall(format.reply, reply, model, note)
      if not made or not text then
        local otherwise = ("transformation failed from type %s://%s"):format(name, route_type)
        return nil, failure(made and err or text, otherwise)
      end
      return text
    elseif route_type == STREAM and reply.tenantgate then
      -- At a stream's end ai-proxy goes through the events of its last piece once more.
      local data = reply.data
      reply.data = nil
      return data
    end
    return from_format(reply, model, route_type)
  end
end

for name in pairs(FORMAT_OF) do
  wrap(name)
end
filters.guard()

local frame_to_events = shared.frame_to_events
shared.frame_to_events = function(frame, content_type)
  local reader = kong.ctx.shared.tenantgate_stream
  if not reader then
    return frame_to_events(frame, content_type)
  elseif content_type and not reader.types[content_type] then
    return nil -- Kong's would take it for Gemini's, and write pieces of it to the log
  end
  local events = {}
  for i, chunk in ipairs(reader.stream:feed(frame)) do
    events[i] = {data = chunk, tenantgate = true}
  end
  reader.note(nil, nil, #events)
  return events
end

local bedrock = require "kong.llm.drivers.bedrock"
local configure_request = bedrock.configure_request
bedrock.configure_request = function(conf, sdk)
  local model = ai_ctx.get_request_model_table_inuse()
  if not settings(model) then
    return configure_request(conf, sdk)
  end
  return signing.configure(conf.auth or {}, model, kong.ctx.shared.tenantgate_stream ~= nil)
end
