"""The semantic cache's manifest."""

from __future__ import annotations

from typing import Final

from tenantgate.cache.config import CACHE_ONLY, CacheConfig
from tenantgate.manifest import Command, Feature, PluginManifest

__all__ = ["CACHE", "FEATURE"]

CACHE: Final = PluginManifest(
    name="tenant-semantic-cache",
    section="cache",
    description="The tenant-semantic-cache plugin.",
    priority=794,  # below all that refuses or rewrites a request, above ai-proxy (770)
    phases=("access", "log"),
    config_class=CacheConfig,
    service="tenantgate.cache.service:SemanticCache",
    filled={
        "strict_requests": lambda settings: settings.strict_requests,
        "upstream_headers": lambda settings: settings.upstream_headers,
        "namespace": lambda settings: settings.route or None,
        "encryption_key": lambda settings: settings.encryption_key,
        "redis": lambda settings: settings.redis,
    },
    gates_field="guards",
    needs_replies=lambda _config: True,
    rejects=lambda config: config.on_error == "reject" or config.mode == CACHE_ONLY,
)

FEATURE: Final = Feature(
    plugins=(CACHE,),
    commands=(
        Command(
            name="cache",
            help="look at, empty or calibrate the semantic cache",
            adds="tenantgate.cache.commands:cache",
        ),
    ),
)
