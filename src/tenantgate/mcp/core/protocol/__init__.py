"""The Model Context Protocol over HTTP: messages, revisions, headers, results. Pure.

Revisions 2026-07-28 (stateless; each request says its revision), 2025-11-25 and 2025-06-18 (with `initialize`, which
here leaves no session behind). Source: https://modelcontextprotocol.io/specification/2026-07-28
"""
