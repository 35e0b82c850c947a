"""tenantgate: the engine, which runs all stages of a request by its tenant's policy."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from tenantgate import __version__
from tenantgate.engine.config import EngineConfig
from tenantgate.engine.manifest import ENGINE
from tenantgate.kong import TenantPlugin, kong_fields

version, priority, Schema = __version__, ENGINE.priority, kong_fields(ENGINE.config_class)

_MOST_S: Final = 30.0  # half of what the watchdog waits for


class Plugin(TenantPlugin[EngineConfig], manifest=ENGINE):
    """One configured instance."""

    anywhere = True
    """Its services and routes have one engine: a process goes by one version."""

    def __init__(self, values: dict[str, Any]) -> None:
        """Set up; the engine reads its policies from now on, not from its first request on."""
        super().__init__(values)
        with contextlib.suppress(
            Exception
        ):  # it fails again at the first request, and then as the policy says
            _ = self._service


def load() -> None:
    """Load what holds Python's lock for long, before there is anybody to answer, once for all processes."""
    from tenantgate.engine.service import wait_for_policies  # noqa: F401 - the engine's code
    from tenantgate.engine.warm_up import load_shared

    load_shared()


def warm_up() -> None:
    """Load what the first request would wait for."""
    from tenantgate.engine.service import wait_for_policies
    from tenantgate.engine.warm_up import load_models

    load_models()
    wait_for_policies(_MOST_S)  # of a process that takes another's place: its instances are there already


def stop() -> None:
    """Bring to an end what is still on its way when the process ends; a second at most."""
    from tenantgate.limits.service import flush

    flush()
