"""The MCP servers' manifest: no stage of requests for models, but endpoints of their own."""

from __future__ import annotations

from typing import Final

from tenantgate.manifest import Command, Feature, GatewaySection
from tenantgate.mcp.config import McpGateway

__all__ = ["FEATURE"]

FEATURE: Final = Feature(
    gateway=GatewaySection(name="mcp", config_class=McpGateway, description="Requests to MCP servers."),
    servers="tenantgate.mcp.compiling:compiled",
    commands=(
        Command(
            name="mcp",
            help="tools of MCP servers from OpenAPI documents: suggest, inspect, diff, approve, try",
            adds="tenantgate.mcp.commands:mcp",
        ),
    ),
)
