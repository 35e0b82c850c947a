"""tenantgate: the engine, which runs all stages of a request by its tenant's policy."""

from __future__ import annotations

from tenantgate import __version__
from tenantgate.engine.config import EngineConfig
from tenantgate.engine.manifest import ENGINE
from tenantgate.kong import TenantPlugin, kong_fields

version, priority, Schema = __version__, ENGINE.priority, kong_fields(ENGINE.config_class)


class Plugin(TenantPlugin[EngineConfig], manifest=ENGINE):
    """One configured instance."""


def load() -> None:
    """Load what holds Python's lock for long, before there is anybody to answer."""
    from tenantgate.engine.warm_up import load_vocabularies

    load_vocabularies()


def warm_up() -> None:
    """Load what the first request would wait for."""
    from tenantgate.engine.warm_up import load_models

    load_models()


def stop() -> None:
    """Bring to an end what is still on its way when the process ends; a second at most."""
    from tenantgate.limits.service import flush

    flush()
