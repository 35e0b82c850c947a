"""The plugin's settings by route: which content is expected, and by which rules a record is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.audit.config import AuditConfig
from tenantgate.audit.core.join import Arrived
from tenantgate.audit.core.journal import JournalLine
from tenantgate.audit.core.record import Terms
from tenantgate.audit.core.redaction import Policy
from tenantgate.fields import parse
from tenantgate.tenant import TenantId

__all__ = ["RouteSettings", "Routes"]

_KEPT: Final = 10_000  # settings, and policies of each


@dataclass(eq=False)
class RouteSettings:
    """The settings of one configuration of the plugin, and what follows from them by tenant."""

    config: AuditConfig
    _policies: dict[TenantId, Policy] = field(default_factory=dict, repr=False)

    def policy(self, tenant: TenantId) -> Policy:
        """How the tenant's content is redacted."""
        found = self._policies.get(tenant)
        if found is None:
            if len(self._policies) > _KEPT:
                self._policies.clear()
            found = self._policies[tenant] = Policy.of(self.config, tenant)
        return found

    def terms(self, tenant: TenantId) -> Terms:
        """What else of the settings a record of the tenant depends on."""
        config = self.config
        return Terms(config.client_ip, config.input_cost, config.output_cost, self.policy(tenant).key)


class Routes:
    """Settings by the name that contents refer to, and by the id of the route that they hold for."""

    def __init__(self) -> None:
        self._by_name: dict[str, RouteSettings] = {}
        self._by_route: dict[str, RouteSettings] = {}

    def add(self, name: str, route_id: str, values: Mapping[str, Any]) -> RouteSettings:
        """Let the settings hold for the route from now on; `values` are a configuration as it was sent.

        Raises:
            ConfigError: they can't hold.
        """
        settings = self._by_name.get(name)
        if settings is None:
            if len(self._by_name) > _KEPT:
                used = set(map(id, self._by_route.values()))
                self._by_name = {n: s for n, s in self._by_name.items() if id(s) in used}
            settings = self._by_name[name] = RouteSettings(parse(AuditConfig, values))
        if route_id:
            self._by_route[route_id] = settings
        return settings

    def of_line(self, line: JournalLine) -> RouteSettings | None:
        """The settings of the line's route; None where none are known."""
        return self._by_route.get(line.route_id)

    def of(self, line: JournalLine, content: Arrived | None) -> RouteSettings | None:
        """The settings that the content was taken under, else those of the line's route."""
        named = self._by_name.get(content.policy) if content is not None else None
        return named or self.of_line(line)

    def expects_content(self, line: JournalLine | None) -> bool:
        """Whether content may come for this line."""
        if line is None:
            return False
        settings = self.of_line(line)
        return settings is None or settings.config.content != "off" or bool(settings.config.headers)
