-- Lua for some requests only. What a request needs is in the engine's decision, so that no rule changes Kong's entities.
local d = kong.ctx.shared.tenantgate_decision
if MEMBERS then
CODE
end
