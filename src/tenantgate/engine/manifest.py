"""The engine's manifest: a plugin that isn't configured in tenants.yaml, but runs what is configured there."""

from __future__ import annotations

from typing import Final

from tenantgate.engine.config import EngineConfig
from tenantgate.manifest import PluginManifest

__all__ = ["ENGINE"]

ENGINE: Final = PluginManifest(
    name="tenantgate",
    section="tenantgate",
    description="The engine: all stages of a request, by its tenant's policy.",
    priority=799,  # behind authentication and tenantgate-request (800), before tenantgate-target (771)
    phases=("access", "response", "log"),
    config_class=EngineConfig,
    service="tenantgate.engine.service:Engine",
    # Where the engine gives no decision, tenantgate-target knows whether the request may go on.
    rejects=lambda _config: False,
)
