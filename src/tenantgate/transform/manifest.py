"""The manifest of the transformation of requests: a stage of the engine, not a plugin of Kong's."""

from __future__ import annotations

from typing import Final

from tenantgate.manifest import Feature, PluginManifest
from tenantgate.transform.config import TransformConfig

__all__ = ["FEATURE", "TRANSFORM"]

TRANSFORM: Final = PluginManifest(
    name="tenant-transform",
    section="transform",
    description="Changes of requests: parameters, end user, system prompt, headers.",
    priority=795,  # behind the guardrails (796), which judge what is the client's, and before the cache (794)
    phases=("access",),
    config_class=TransformConfig,
    service="tenantgate.transform.service:Transformation",
    filled={"encryption_key": lambda settings: settings.encryption_key},
    attachable=False,
)

FEATURE: Final = Feature(plugins=(TRANSFORM,))
