-- post-function, access, where ai-proxy would let the client's own value pass: it unpacks nothing but gzip.
kong.service.request.set_header("Accept-Encoding", "gzip, identity")
