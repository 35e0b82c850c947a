"""The rate limits' decisions: pure functions over frozen data.

`rules` and `claims` say what counts a request, `keys` and `windows` where its counters lie, `counters` whether there is
room, `ladder` what a budget does on the way, `reply` what the client gets to see of it, and `ledger` what the edge
provides.
"""
