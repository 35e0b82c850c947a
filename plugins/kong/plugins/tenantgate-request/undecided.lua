-- Ends of requests without a decision, since there was no engine: what went on is charged to its limits when there is one
-- again, and what was refused gets back what it may hold. In memory that all workers share, and without anything of what was asked and answered.
local cjson = require "cjson.safe"

local DICT, NAME = "tenantgate_tries", "undecided:"
local FIRST, LAST = NAME .. "first", NAME .. "last"
local MAX_KEPT, MAX_REFUSED, MAX_TAKEN = 5000, 1000, 20 -- refused ones hold something if the engine has just died
local KEPT_S = 1500 -- for less long than the ledger knows which requests are settled

local M = {}

function M.keep(log)
  local dict = ngx.shared[DICT]
  if not dict then
    return
  end
  local first = dict:get(FIRST) or 0
  if not log.recalled and (dict:get(LAST) or 0) - first >= MAX_REFUSED then
    return
  end
  local number = dict:incr(LAST, 1, 0)
  if number and number - first <= MAX_KEPT then
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
