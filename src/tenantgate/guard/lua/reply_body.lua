-- post-function, body_filter, beside reply_head.lua: nothing of the reply, and at its end the error.
if kong.ctx.shared.tenantgate_reply_refused then
  ngx.arg[1] = ngx.arg[2] and 'UNCHECKED' or ""
end
