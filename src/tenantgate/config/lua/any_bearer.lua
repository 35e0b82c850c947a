-- pre-function, access: before key-auth, which compares the whole value of Authorization, for which an OpenAI SDK
-- writes "Bearer " and its key. The scheme's case doesn't count (RFC 9110, section 11.1).
local v = kong.request.get_headers()["authorization"]
local k = type(v) == "string" and v:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +(%S+)$")
if k then kong.service.request.set_header("Authorization", k) end
