-- The plugin's order to the hop for one try. Pure.
local choice = require "kong.plugins.tenantgate-failover.choice"

local M = {}

M.HEADER = "X-Tenantgate-Order"

-- Seconds from a request's first try within which its reply has to be there.
function M.longest_s(limits, stream)
  return (stream and limits.streaming_total_ms or limits.non_streaming_total_ms) / 1000
end

-- The order as a table. `plan`: of the request: token, key, egress (JSON of lists), stream, json (whether a reply that
-- isn't streamed has to be a JSON object), deadline (Unix time, s), limits, targets, tried, current, number, criteria,
-- retries. `asked`: what is asked of the provider: method, scheme, host, port, path (with its query), headers (names).
-- `again` is the set of classes after which another try is asked for, `more` says whether nginx would try again.
function M.made(plan, asked)
  local again = {}
  local left = plan.retries - (plan.number - 1)
  for _, class in ipairs(choice.classes(plan.targets, plan.tried, plan.current, plan.criteria, left)) do
    again[class] = true
  end
  local limits = plan.limits
  return {
    token = plan.token, key = plan.key, number = plan.number, egress = plan.egress, stream = plan.stream, json = plan.json,
    deadline = plan.deadline, again = again, more = left > 0,
    connect_ms = limits.connect_ms, idle_ms = limits.idle_ms,
    first_byte_ms = plan.stream and limits.ttft_ms or limits.non_streaming_total_ms,
    method = asked.method, scheme = asked.scheme, host = asked.host, port = asked.port, path = asked.path,
    headers = asked.headers,
  }
end

return M
