"""Routing's manifest: no plugin and no stage, which the engine has built in, but a command."""

from __future__ import annotations

from typing import Final

from tenantgate.manifest import Command, Feature

__all__ = ["FEATURE"]

FEATURE: Final = Feature(
    commands=(
        Command(
            name="providers",
            help="health of providers' models, and the switches that drain and restore them",
            adds="tenantgate.routing.commands:providers",
        ),
    )
)
