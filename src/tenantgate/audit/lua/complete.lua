-- custom_fields_by_lua: whether the answer was sent to its end. Who leaves in the middle of a stream has the 200 by
-- then.
return ngx.var.request_completion == "OK"
