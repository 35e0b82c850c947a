"""tenant-semantic-cache: answers repeated and reworded questions of a tenant from Redis."""

from __future__ import annotations

from tenantgate import __version__
from tenantgate.cache.config import CacheConfig
from tenantgate.cache.manifest import CACHE
from tenantgate.kong import TenantPlugin, kong_fields

version, priority, Schema = __version__, CACHE.priority, kong_fields(CACHE.config_class)


class Plugin(TenantPlugin[CacheConfig], manifest=CACHE):
    """One configured instance."""


def warm_up() -> None:
    """Load what the first request would wait for."""
    from tenantgate.cache.service import MODELS
    from tenantgate.models.language import load_identifier
    from tenantgate.models.ports import BUILT_IN

    load_identifier()
    MODELS.load(BUILT_IN, BUILT_IN)
