-- The egress lists that bind a request.
local cjson = require "cjson.safe"

local gateways = setmetatable({}, {__mode = "k"}) -- as JSON, by configuration

local M = {}

local function list_text(list)
  return #list > 0 and cjson.encode(list) or "[]"
end

-- The lists as JSON, "[]" if none binds it. `conf.egress_allow`: the gateway's; `decision.egress`: its tenant's.
function M.text(conf, decision)
  local lists = {}
  if conf.egress_allow then
    local text = gateways[conf]
    if not text then
      text = list_text(conf.egress_allow)
      gateways[conf] = text
    end
    lists[1] = text
  end
  if decision.egress ~= nil then
    lists[#lists + 1] = list_text(type(decision.egress) == "table" and decision.egress or {})
  end
  return "[" .. table.concat(lists, ",") .. "]"
end

return M
