-- JSON whose lists stay lists: an empty one would else be written as an object.
local cjson = require "cjson.safe"
local kong_cjson = require "kong.tools.cjson"

local M = {null = cjson.null, encode = kong_cjson.encode}

-- The object or list in a text; nil for anything else.
function M.decode(text)
  local value = type(text) == "string" and kong_cjson.decode_with_array_mt(text)
  return type(value) == "table" and value or nil
end

function M.list(value)
  return setmetatable(value or {}, kong_cjson.array_mt)
end

-- The value if it is a table, else an empty one.
function M.table_of(value)
  return type(value) == "table" and value or {}
end

-- The value if it is a text that isn't empty, else nil.
function M.text_of(value)
  return type(value) == "string" and value ~= "" and value or nil
end

return M
