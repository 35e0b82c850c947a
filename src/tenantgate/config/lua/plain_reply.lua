-- post-function, access, beside anthropic_stop_reason.lua, which can't read a compressed stream.
kong.service.request.set_header("Accept-Encoding", "identity")
