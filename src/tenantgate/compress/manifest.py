"""The prompt compression's manifest."""

from __future__ import annotations

from typing import Final

from tenantgate.compress.config import CompressConfig
from tenantgate.manifest import Command, Feature, PluginManifest

__all__ = ["COMPRESSOR", "FEATURE"]

COMPRESSOR: Final = PluginManifest(
    name="tenant-prompt-compressor",
    section="compression",
    description="The tenant-prompt-compressor plugin.",
    priority=798,  # above the guard (796), which reads and masks the text as it will leave
    phases=("access",),
    config_class=CompressConfig,
    service="tenantgate.compress.service:PromptCompression",
    filled={"strict_requests": lambda settings: settings.strict_requests},
    prices=("input_cost",),
    rejects=lambda config: config.stop_on_error,
    own_deadline=True,  # out of time means the original prompt, not an error
    inspects="tenantgate.compress.validation:problems",
)

FEATURE: Final = Feature(
    plugins=(COMPRESSOR,),
    commands=(
        Command(
            name="compress",
            help="show what compression would take out of a prompt",
            adds="tenantgate.compress.commands:compress",
        ),
    ),
)
