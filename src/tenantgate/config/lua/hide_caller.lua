-- post-function, access. Kong tells the upstream the client's address and path (X-Forwarded-*), which names the
-- tenant, and the proxies that the client has named (Via); that isn't the provider's business.
for _, n in ipairs({"for", "host", "path", "port", "prefix", "proto"}) do
  ngx.var["upstream_x_forwarded_" .. n] = ""
end
ngx.var.upstream_via = ""
