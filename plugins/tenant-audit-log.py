"""tenant-audit-log: a complete, redacted record of every request.

Wiring only; what it does is in `tenantgate.audit` (decisions), `tenantgate.audit.service` (phases) and
`tenantgate.audit.worker` (the process that writes the records).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tenantgate import __version__
from tenantgate.audit.config import AuditConfig, check
from tenantgate.errors import ConfigError
from tenantgate.kong import Host, configure, kong_fields, phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantgate.audit.service import AuditLog

version = __version__
priority = 799
Schema = kong_fields(AuditConfig)


class Plugin:
    """One configured instance."""

    config: AuditConfig
    config_error: ConfigError | None
    config_keys: Mapping[str, str]

    def __init__(self, config: dict[str, Any]) -> None:
        configure(self, AuditConfig, config)
        try:
            if self.config_error is None:
                check(self.config)
        except ConfigError as problem:
            self.config_error = problem

    @cached_property
    def _audit(self) -> AuditLog:
        # Imported at the first event: Kong's query command only wants the schema, and quickly.
        from tenantgate.audit.service import AuditLog  # noqa: PLC0415

        return AuditLog(self.config, self.config_keys.get("route_id", ""))

    @phase
    def access(self, host: Host) -> None:
        """Hold what the log phase can't read."""
        self._audit.access(host)

    @phase
    def log(self, host: Host) -> None:
        """Hand it over to the worker."""
        self._audit.log(host)


def warm_up() -> None:
    """Load what the first request would wait for."""
    import tenantgate.audit.service  # noqa: F401, PLC0415
