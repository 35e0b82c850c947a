"""The rate limits' decisions: pure functions over frozen data.

`limit` says which limits count a request, `keys` where their counters lie, `window` whether there is room, `reply` what
the client gets to see of it, and `ports` what the edge has to provide.
"""
