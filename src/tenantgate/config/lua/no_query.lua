-- pre-function, access: the client's query string ends here. ai-proxy may still set one of its own (Azure).
kong.service.request.set_raw_query("")
