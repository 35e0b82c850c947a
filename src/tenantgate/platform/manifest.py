"""The platform's manifest: a section of `gateway` and commands, no plugin."""

from __future__ import annotations

from typing import Final

from tenantgate.manifest import Command, Feature, GatewaySection
from tenantgate.platform.config import Platform

__all__ = ["FEATURE"]

FEATURE: Final = Feature(
    gateway=GatewaySection(
        name="platform",
        config_class=Platform,
        description="The platform that keeps tenants' limits and budgets, and takes their usage.",
    ),
    commands=(
        Command(
            name="platform",
            help="the platform's limits and budgets into the policies: pull, serve, status",
            adds="tenantgate.platform.commands:platform",
        ),
        Command(
            name="platform-mock",
            help="run a platform on this machine, for development and tests, until Ctrl-C",
            adds="tenantgate.platform.commands:platform_mock",
        ),
    ),
    documents={"platform-api.json": "tenantgate.platform.document:document"},
)
