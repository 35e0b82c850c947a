-- Server-sent events, read from a body that comes in pieces, and written.
-- https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
local json = require "kong.plugins.tenantgate-format.json"

local M = {}

-- A function that takes the next piece and whether it is the last one, and gives each event's data to `use`, in order.
-- How a body is cut into pieces makes no difference.
function M.reader(use)
  local rest, data = "", {}

  local function flush()
    if data[1] then
      local text = table.concat(data, "\n")
      data = {}
      use(text)
    end
  end

  local function line(text)
    if text == "" then
      flush()
    else
      local value = text:match("^data: ?(.*)$")
      if value then
        data[#data + 1] = value
      end
    end
  end

  return function(piece, last)
    rest = rest .. (piece or "")
    local from = 1
    while true do
      local at = rest:find("[\r\n]", from)
      if not at then
        break
      end
      local ending = 1
      if rest:byte(at) == 13 then
        if at == #rest and not last then
          break -- a line feed may follow
        elseif rest:byte(at + 1) == 10 then
          ending = 2
        end
      end
      line(rest:sub(from, at - 1))
      from = at + ending
    end
    rest = rest:sub(from)
    if last then
      line(rest)
      flush()
      rest = ""
    end
  end
end

-- One event, whose name is also its data's `type`.
function M.event(value)
  return "event: " .. value.type .. "\ndata: " .. json.encode(value) .. "\n\n"
end

return M
