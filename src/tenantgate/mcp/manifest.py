"""The MCP servers' manifest: no stage of requests for models, but endpoints of their own."""

from __future__ import annotations

from typing import Final

from tenantgate.manifest import Command, Feature

__all__ = ["FEATURE"]

FEATURE: Final = Feature(
    servers="tenantgate.mcp.compiling:compiled",
    commands=(
        Command(
            name="mcp",
            help="tools of MCP servers from OpenAPI documents: suggest, inspect, diff, approve, try",
            adds="tenantgate.mcp.commands:mcp",
        ),
    ),
)
