"""Decisions of the MCP servers: pure functions over frozen data.

No input or output, no clock, no randomness, no Kong, no Redis.
"""
