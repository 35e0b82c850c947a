-- Sends requests that may fail over, or that an egress policy binds, through the hop (hop.lua), one try after another.
-- After ai-proxy (770), whose choice of upstream it takes over. A model with one target and without a policy isn't
-- touched. Where the hop or the shared memory is missing, the request is refused; it never leaves by another way.
local REQUEST = "kong.plugins.tenantgate-failover.request"

local Failover = {PRIORITY = 769, VERSION = "0.2.0"}

function Failover:access(conf)
  local route = ngx.ctx.tenantgate_route
  if not route then
    return
  end
  local decision = route.decision
  if decision.routing ~= nil or decision.egress ~= nil or conf.egress_allow then
    return require(REQUEST).begin(conf, decision, route)
  end
end

function Failover:header_filter()
  local plan = ngx.ctx.tenantgate_plan
  if plan then
    require(REQUEST).head(plan)
  end
end

function Failover:body_filter()
  local plan = ngx.ctx.tenantgate_plan
  if plan and (plan.refused or plan.answered and plan.stream and ngx.arg[2]) then
    require(REQUEST).body(plan)
  end
end

return Failover
