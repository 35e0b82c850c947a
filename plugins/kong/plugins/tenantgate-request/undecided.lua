-- Ends of requests that went on without a decision, since there was no engine: its limits are charged when there is one
-- again. In memory that all workers share, and without anything of what was asked and answered.
local cjson = require "cjson.safe"

local DICT, NAME = "tenantgate_tries", "undecided:"
local FIRST, LAST = NAME .. "first", NAME .. "last"
local MAX_KEPT, MAX_TAKEN = 5000, 20
local KEPT_S = 1500 -- for less long than the ledger knows which requests are settled

local M = {}

function M.keep(log)
  local dict = ngx.shared[DICT]
  local number = dict and dict:incr(LAST, 1, 0)
  if number and number - (dict:get(FIRST) or 0) <= MAX_KEPT then
    dict:safe_set(NAME .. number, cjson.encode(log), KEPT_S)
  end
end

-- Some of them, for an engine that lives; they are forgotten here. Nil where there are none.
function M.take()
  local dict = ngx.shared[DICT]
  local last = dict and dict:get(LAST)
  if not last or (dict:get(FIRST) or 0) >= last then
    return nil
  end
  local out = {}
  for _ = 1, MAX_TAKEN do
    local number = dict:incr(FIRST, 1, 0)
    if not number or number > last then
      dict:incr(FIRST, -1) -- another worker has taken the last one
      break
    end
    out[#out + 1] = cjson.decode(dict:get(NAME .. number) or "")
    dict:delete(NAME .. number)
  end
  return out
end

return M
