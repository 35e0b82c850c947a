-- The format that a request's path stands for. Below this gateway all is OpenAI's chat.
local M = {}

-- "messages" (Anthropic's Messages API) or "responses" (OpenAI's Responses API), also for paths below these, which are
-- no operation here: their clients read errors of the same shape. nil for all others.
function M.format_of(path)
  for _, name in ipairs({"messages", "responses"}) do
    if path:find("/v1/" .. name .. "%f[/%z]") then
      return name
    end
  end
  return nil
end

return M
