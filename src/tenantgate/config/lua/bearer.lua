-- post-function, access. A vault reference must be the whole value of ai-proxy's field, so "Bearer " can't be
-- written before it. ai-proxy has replaced the client's own Authorization by then.
local v = kong.request.get_header("Authorization");
if v and not v:find("^Bearer ") then
  kong.service.request.set_header("Authorization", "Bearer " .. v)
end
