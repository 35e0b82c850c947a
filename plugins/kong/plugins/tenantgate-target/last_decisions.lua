-- The last decision for each tenant and model, for requests that `tenantgate` doesn't answer for. Of each worker.
local cjson = require "kong.tools.cjson"
local lrucache = require "resty.lrucache"

local MAX_ENTRIES, MAX_KEY = 10000, 512
local TTL_S = 300 -- a rule that has changed meanwhile is unknown here

local entries = assert(lrucache.new(MAX_ENTRIES))

-- The body as a table, and the model that it names, "" if none; nil where it is no JSON object.
local function parsed(request)
  local kind = request.headers["content-type"]
  kind = type(kind) == "string" and kind:lower():match("^[^;]*"):match("^(.-)%s*$")
  if kind ~= "application/json" or not request.body:find("^%s*{") then
    return nil
  end
  local body = cjson.decode_with_array_mt(request.body)
  if type(body) ~= "table" then
    return nil
  end
  return body, body.model == nil and "" or body.model
end

local function decoded(text)
  return type(text) == "string" and (text:gsub("%%(%x%x)", function(h) return string.char(tonumber(h, 16)) end)) or ""
end

-- By what a path names, not by its spelling: of that there is no end, and one tenant could drive out the others'.
local function key_of(request, model)
  -- A body of another format is none for ai-proxy, and of another operation nobody has read the texts.
  if type(model) ~= "string" or not request.path:find("/chat/completions$") then
    return nil
  end
  local captures, key = request.captures or {}, #request.tenant .. ":" .. request.tenant
  for _, name in ipairs({"tenant", "provider", "model", "deployment"}) do
    local part = decoded(captures[name])
    key = key .. #part .. ":" .. part
  end
  key = key .. model
  return #key <= MAX_KEY and key or nil
end

local M = {}

-- Keep a decision. `decision.model` is the model as the request names it; where absent it is read from the body.
function M.remember(request, decision)
  local key = key_of(request, decision.model or select(2, parsed(request)))
  if key then
    entries:set(key, {
      target = decision.target,
      targets = decision.targets,
      routing = decision.routing,
      egress = decision.egress,
      keep_headers = decision.keep_headers,
      model_id = decision.model_id,
      open = decision.fail_closed == false,
    }, TTL_S)
  end
end

-- The decision that holds in place of one, with the client's own body for its target; nil where there is none that
-- lets requests pass unchecked.
function M.recall(request)
  local body, model = parsed(request)
  local key = key_of(request, model)
  local last = key and entries:get(key)
  if not last or not last.open then
    return nil
  end
  body.model = last.target.name
  local text = cjson.encode(body)
  return text and {
    target = last.target, targets = last.targets, routing = last.routing, egress = last.egress, reply_guard = false,
    body = text, model_id = last.model_id, keep_headers = last.keep_headers,
  }
end

return M
