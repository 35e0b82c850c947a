-- Counts of tokens, from OpenAI's `usage` to the ones of other formats.
local json = require "kong.plugins.tenantgate-format.json"

local function count(value)
  return type(value) == "number" and value >= 0 and value < 1e12 and math.floor(value) or 0
end

local M = {}

-- All counts of a usage object; of one that isn't there, those that ai-proxy has counted itself.
function M.read(usage, counted)
  local given = type(usage) == "table" and (usage.prompt_tokens or usage.completion_tokens)
  usage = given and usage or json.table_of(counted)
  local prompt, completion = json.table_of(usage.prompt_tokens_details), json.table_of(usage.completion_tokens_details)
  return {
    prompt = count(usage.prompt_tokens),
    completion = count(usage.completion_tokens),
    cached = count(prompt.cached_tokens),
    written = count(prompt.cache_write_tokens),
    reasoning = count(completion.reasoning_tokens),
  }
end

-- Anthropic counts what comes from its prompt cache beside `input_tokens`, OpenAI within `prompt_tokens`.
function M.of_messages(counts)
  return {
    input_tokens = math.max(0, counts.prompt - counts.cached - counts.written),
    cache_creation_input_tokens = counts.written,
    cache_read_input_tokens = counts.cached,
    output_tokens = counts.completion,
  }
end

function M.of_responses(counts)
  return {
    input_tokens = counts.prompt,
    input_tokens_details = {cached_tokens = counts.cached, cache_write_tokens = counts.written},
    output_tokens = counts.completion,
    output_tokens_details = {reasoning_tokens = counts.reasoning},
    total_tokens = counts.prompt + counts.completion,
  }
end

return M
