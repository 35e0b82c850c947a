"""tenant-audit-log: a complete, redacted record of every request."""

from __future__ import annotations

from tenantgate import __version__
from tenantgate.audit.config import AuditConfig
from tenantgate.audit.manifest import AUDIT
from tenantgate.kong import TenantPlugin, kong_fields
from tenantgate.manifest import resolve

version, priority, Schema = __version__, AUDIT.priority, kong_fields(AUDIT.config_class)


class Plugin(TenantPlugin[AuditConfig], manifest=AUDIT):
    """One configured instance."""

    def service(self) -> object:
        """The object that does the work of the phases."""
        return resolve(AUDIT.service)(self.config, self.config_keys.get("route_id", ""))
