"""tenant-semantic-cache: answers repeated and reworded questions of a tenant from Redis.

Wiring only; what it does is in `tenantgate.cache` (decisions) and `tenantgate.cache.service` (effects).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tenantgate import __version__
from tenantgate.cache.config import CacheConfig
from tenantgate.kong import Host, configure, kong_fields, phase

if TYPE_CHECKING:
    from tenantgate.cache.service import SemanticCache

version = __version__
priority = 794
Schema = kong_fields(CacheConfig)


class Plugin:
    """One configured instance."""

    config: CacheConfig

    def __init__(self, config: dict[str, Any]) -> None:
        configure(self, CacheConfig, config)

    @cached_property
    def _cache(self) -> SemanticCache:
        # Imported at the first event: Kong's query command only wants the schema, and quickly.
        from tenantgate.cache.service import SemanticCache  # noqa: PLC0415

        return SemanticCache(self.config)

    @phase
    def access(self, host: Host) -> None:
        """Answer from the cache, or note the miss."""
        self._cache.access(host)

    @phase
    def log(self, host: Host) -> None:
        """Store the provider's answer."""
        self._cache.log(host)


def warm_up() -> None:
    """Load what the first request would wait for."""
    from tenantgate.cache.service import MODELS  # noqa: PLC0415
    from tenantgate.models.language import load_identifier  # noqa: PLC0415
    from tenantgate.models.ports import BUILT_IN  # noqa: PLC0415

    load_identifier()
    MODELS.load(BUILT_IN, BUILT_IN)
