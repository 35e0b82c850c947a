-- Which target is tried next. Pure.
--
-- Targets are a list in their order; each has `provider`, `name`, `url` (or nil), `context_window` (or nil).
-- `tried` is the set of their numbers, `current` the number of the last one.
local M = {}

M.REFUSED = "refused" -- by the egress policy: nothing was sent, and the next target may be permitted

local function same_model(a, b)
  return a.provider == b.provider and a.name == b.name and a.url == b.url
end

local function first(targets, tried, fits)
  for i, target in ipairs(targets) do
    if not tried[i] and (not fits or fits(target)) then
      return i
    end
  end
  return nil
end

-- The number of the next target after a failure of this class; nil if there is none.
function M.next(targets, tried, current, class)
  if class == "http_401" or class == "http_403" then
    -- Another credential of the same model, and only then another one.
    local own = first(targets, tried, function(t) return same_model(t, targets[current]) end)
    return own or first(targets, tried)
  end
  if class == "context_length" then
    local window = 0
    for i in pairs(tried) do
      -- Of an unknown window nothing is larger for certain.
      window = math.max(window, targets[i].context_window or math.huge)
    end
    return first(targets, tried, function(t) return (t.context_window or 0) > window end)
  end
  return first(targets, tried)
end

-- The classes after which there is a next target: those of `criteria` that find one.
function M.classes(targets, tried, current, criteria, retries_left)
  local out = {}
  if retries_left < 1 then
    return out
  end
  for _, class in ipairs(criteria) do
    if M.next(targets, tried, current, class) then
      out[#out + 1] = class
    end
  end
  if M.next(targets, tried, current, M.REFUSED) then
    out[#out + 1] = M.REFUSED
  end
  return out
end

return M
