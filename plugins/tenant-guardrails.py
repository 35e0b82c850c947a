"""tenant-guardrails: notes, masks or refuses what a tenant's rules find in its requests."""

from __future__ import annotations

from tenantgate import __version__
from tenantgate.guard.config import GuardConfig
from tenantgate.guard.manifest import GUARD
from tenantgate.kong import TenantPlugin, kong_fields

version, priority, Schema = __version__, GUARD.priority, kong_fields(GUARD.config_class)


class Plugin(TenantPlugin[GuardConfig], manifest=GUARD):
    """One configured instance."""


def warm_up() -> None:
    """Load what the first request would wait for."""
    from tenantgate.guard.models import PARTS

    PARTS.load("injection")
