-- Parts of OpenAI's requests and replies that several formats share.
local cjson = require "kong.tools.cjson"

local M = {}

local null = require("cjson").null
M.null = null

-- The value, nil for JSON's null.
function M.given(value)
  if value == null then
    return nil
  end
  return value
end

-- The text of a message's content: a text, or the texts of its parts.
function M.text(content)
  if type(content) == "string" then
    return content
  end
  local texts = {}
  for _, part in ipairs(type(content) == "table" and content or {}) do
    if type(part) == "table" and type(part.text) == "string" then
      texts[#texts + 1] = part.text
    end
  end
  return table.concat(texts)
end

-- Media type and Base64 text of a data URL, nil for another URL.
function M.data_url(url)
  return url:match("^data:([%w.+/-]+)[^,]*;base64,(.*)$")
end

-- A tool call's arguments as a table; an error where they aren't a JSON object.
function M.arguments(text)
  if text == nil or text == null or text == "" then
    return {}
  end
  local found = cjson.decode_with_array_mt(text)
  if type(found) ~= "table" then
    error("the arguments of a tool call aren't a JSON object", 0)
  end
  return found
end

-- The largest number of tokens: the operator's, or the client's by its newer or older name.
function M.max_tokens(request, options)
  return options.max_tokens or M.given(request.max_completion_tokens) or M.given(request.max_tokens)
end

-- `stop` as a list, nil where there is none.
function M.stops(request)
  local stop = M.given(request.stop)
  if type(stop) == "string" then
    return {stop}
  end
  return type(stop) == "table" and #stop > 0 and stop or nil
end

-- Functions among the tools, nil where there are none.
function M.functions(request)
  local found = {}
  for _, tool in ipairs(type(request.tools) == "table" and request.tools or {}) do
    if type(tool) == "table" and type(tool["function"]) == "table" then
      found[#found + 1] = tool["function"]
    end
  end
  return #found > 0 and found or nil
end

-- OpenAI's usage, for the client.
function M.usage(prompt, completion, cached, written)
  return {
    prompt_tokens = prompt,
    completion_tokens = completion,
    total_tokens = prompt + completion,
    prompt_tokens_details = {cached_tokens = cached, cache_write_tokens = written},
  }
end

-- The text of a chunk. `delta` nil: the one with the usage alone.
function M.chunk(stream, delta, finish, usage)
  local made = {
    id = stream.id,
    object = "chat.completion.chunk",
    created = stream.created,
    model = stream.model,
    choices = setmetatable({}, cjson.array_mt),
    usage = usage,
  }
  if delta then
    made.choices[1] = {index = 0, delta = delta, logprobs = null, finish_reason = finish or null}
  end
  return cjson.encode(made)
end

-- The text of a chunk that tells of an error in the middle of a stream, as OpenAI sends it.
function M.failure(message, kind)
  return cjson.encode({error = {message = message, type = kind, param = null, code = null}})
end

return M
