"""The audit log's decisions: pure functions over frozen data.

`journal` reads Kong's own log lines, `join` puts a line and its content together, `redaction` takes personal data
and secrets out, `record` is what is kept, `chain` links records so that a missing one shows, `trace` is W3C's trace
context, and `ports` what the edge has to provide.
"""
