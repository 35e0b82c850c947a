"""tenant-guardrails: notes, masks or refuses what a tenant's rules find in its requests.

Wiring only; what it does is in `tenantgate.guard` (decisions) and `tenantgate.guard.service` (effects).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tenantgate import __version__
from tenantgate.guard.config import GuardConfig
from tenantgate.kong import Host, PhasePolicy, configure, kong_fields, phase

if TYPE_CHECKING:
    from tenantgate.guard.service import Guard

version = __version__
priority = 796  # below the compressor (798): nothing rewrites a prompt after its guard
Schema = kong_fields(GuardConfig)


class Plugin:
    """One configured instance."""

    config: GuardConfig
    config_error: Exception | None

    def __init__(self, config: dict[str, Any]) -> None:
        configure(self, GuardConfig, config)
        if self.config_error is None and not self.config.enforces:
            # Rules in alert never stop a request, whatever fails.
            self.policy = PhasePolicy(reject=False, deadline_ms=self.config.deadline_ms)

    @cached_property
    def _guard(self) -> Guard:
        # Imported at the first event: Kong's query command only wants the schema, and quickly.
        from tenantgate.guard.service import Guard  # noqa: PLC0415

        return Guard(self.config)

    @phase
    def access(self, host: Host) -> None:
        """Check the request."""
        self._guard.access(host)

    @phase
    def log(self, host: Host) -> None:
        """Note what is in the reply."""
        self._guard.log(host)


def warm_up() -> None:
    """Load what the first request would wait for."""
    from tenantgate.guard.models import PARTS  # noqa: PLC0415

    PARTS.load("injection")
