-- post-function, access, where a rule blocks or masks. Kong goes on without a plugin whose process is dead; here Kong
-- must not: no mark of the guard's, no way to the provider.
if kong.ctx.shared.tenantgate_guard ~= "pass" then
  return kong.response.exit(503, 'UNCHECKED', {["Content-Type"] = "application/json"})
end
