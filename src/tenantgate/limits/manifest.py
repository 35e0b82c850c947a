"""The rate limits' manifest: a stage of the engine, in the place of Kong's rate-limiting plugin."""

from __future__ import annotations

from typing import Final

from tenantgate.limits.config import LimitsConfig
from tenantgate.manifest import Feature, PluginManifest

__all__ = ["FEATURE", "LIMITS"]

LIMITS: Final = PluginManifest(
    name="tenant-rate-limits",
    section="limits",
    description="The rate limits of a tenant, its keys and its models.",
    priority=910,  # Kong's rate-limiting has the same: above all that costs something
    phases=(),  # counted before all stages, with the tokens and the money of the request
    config_class=LimitsConfig,
    service="tenantgate.limits.service:RequestLimits",
    filled={
        "model_name": lambda _settings: None,  # the engine's compiler knows it
        "redis": lambda settings: settings.rate_limit_redis or settings.redis,
    },
    attachable=False,
    in_file=False,
)

FEATURE: Final = Feature(plugins=(LIMITS,))
