-- Secrets of vault references. Those of the vault `file` are read here, once a second in each worker: kong.vault.get gives
-- the last value until Kong's timer comes by, once in KONG_VAULT_ROTATION_INTERVAL (60 s; kong/pdk/vault.lua).
local cjson = require "kong.tools.cjson"
local files = require "kong.vaults.file"
local lrucache = require "resty.lrucache"

local TTL_S = 1
local KEPT_S = 60 -- the last value of a file that can't be read: as long as somebody may be writing it
local MAX_ENTRIES = 1000

local entries = assert(lrucache.new(MAX_ENTRIES))

-- Of a file, or of the member `key` of the JSON object in it.
local function read(name, key)
  local text, problem = files.get(nil, name)
  if not text or key == "" then
    return text, problem
  end
  local object = cjson.decode_with_array_mt(text)
  local value = type(object) == "table" and object[key]
  if type(value) ~= "string" or value == "" then
    return nil, "has no JSON object with this text"
  end
  return value
end

local function look(reference, name, key)
  local entry, last = entries:get(reference)
  if entry then
    return entry.value
  end
  local value, problem = read(name, key)
  local now = ngx.now()
  local seen = value and now
  if not value and last and last.value and now - last.seen < KEPT_S then
    value, seen = last.value, last.seen
    kong.log.warn("vault file: ", name, ": ", problem, "; its last value holds")
  elseif not value then
    kong.log.err("vault file: ", name, ": ", problem)
  end
  entries:set(reference, {value = value, seen = seen}, TTL_S)
  return value
end

local M = {}

-- The text of a vault reference; another text as it is. Nil where it can't be had. May yield, but for files.
function M.get(value)
  if type(value) == "string" and value:find("{vault://", 1, true) then
    local name, key = value:match("^{vault://file/([%w_][%w._-]*)/?([%w_-]*)}$")
    if name then
      value = look(value, name, key)
    else
      value = kong.vault.get(value)
    end
  end
  return type(value) == "string" and value ~= "" and value or nil
end

return M
