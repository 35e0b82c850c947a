-- pre-function, header_filter: browsers that have come by TLS come by nothing else any more (RFC 6797).
if kong.request.get_forwarded_scheme() == "https" then
  kong.response.set_header("Strict-Transport-Security", "max-age=SECONDS")
end
