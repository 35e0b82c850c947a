"""The plugin's settings by name, route and tenant: which content is expected, and by which rules a record is made.

A line of the journal says under which settings its request was served, where an engine saw it. On a route of the
attachable plugin the route says so. Else, as where every engine is dead, the tenant's last settings hold. Where none
are known, a record has nothing that settings could forbid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tenantgate.audit.config import AuditConfig
from tenantgate.audit.core.costs import PriceLists, price_lists
from tenantgate.audit.core.join import Arrived
from tenantgate.audit.core.journal import UNKNOWN_TENANT, JournalLine
from tenantgate.audit.core.record import Terms
from tenantgate.audit.core.redaction import Policy
from tenantgate.fields import parse
from tenantgate.tenant import TenantId

__all__ = ["NO_AUDIT", "RouteSettings", "Routes"]

NO_AUDIT: Final = "none"
"""The name in lines of tenants without an audit log: they make no record."""

_KEPT: Final = 10_000  # settings, and policies of each
_TENANTS: Final = 100_000


@dataclass(eq=False)
class RouteSettings:
    """The settings of one configuration of the plugin, and what follows from them by tenant."""

    config: AuditConfig
    prices: PriceLists = field(init=False, repr=False)
    _policies: dict[TenantId, Policy] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Read the price lists once.

        Raises:
            ConfigError: one of them is none.
        """
        self.prices = price_lists(self.config)

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
        key = self.policy(tenant).key
        return Terms(self.config.client_ip, self.prices, key, self.config.end_user)


class Routes:
    """Settings by the name that contents and lines refer to, by the id of a route, and by tenant.

    Attributes:
        noted: number of changes of what `known` gives.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, RouteSettings] = {}
        self._by_route: dict[str, RouteSettings] = {}
        self._engine_routes: set[str] = set()  # ids of routes whose lines have named settings
        self._by_tenant: dict[TenantId, str] = {}  # names
        self.noted = 0

    def add(self, name: str, route_id: str, values: Mapping[str, Any]) -> RouteSettings:
        """Know the settings from now on, and let them hold for the route; `values` are a configuration as it was sent.

        Raises:
            ConfigError: they can't hold.
        """
        settings = self._by_name.get(name)
        if settings is None:
            if len(self._by_name) > _KEPT:
                routes, tenants = set(map(id, self._by_route.values())), set(self._by_tenant.values())
                self._by_name = {n: s for n, s in self._by_name.items() if id(s) in routes or n in tenants}
            settings = self._by_name[name] = RouteSettings(parse(AuditConfig, values))
        if route_id:
            self._by_route[route_id] = settings
        return settings

    # -- tenants ------------------------------------------------------------------------------------------

    def note(self, line: JournalLine) -> None:
        """Keep in mind which settings the line names, for lines of its tenant that name none."""
        if not line.policy or line.tenant == UNKNOWN_TENANT:
            return
        if self._by_tenant.get(line.tenant) != line.policy:
            self._by_tenant.pop(line.tenant, None)
            self._by_tenant[line.tenant] = line.policy
            if len(self._by_tenant) > _TENANTS:
                del self._by_tenant[next(iter(self._by_tenant))]
            self.noted += 1
        if line.route_id not in self._engine_routes:
            self._engine_routes.add(line.route_id)
            self.noted += 1

    def known(self) -> dict[str, Any]:
        """What `note` has learnt, as JSON values: the routes' ids, and names of settings by tenant."""
        return {
            "routes": sorted(self._engine_routes),
            "tenants": {str(tenant): name for tenant, name in self._by_tenant.items()},
        }

    def restore(self, known: Mapping[str, Any]) -> None:
        """Know what another process' `known` has given.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no such thing.
        """
        routes = {str(route) for route in known["routes"]}
        tenants = {TenantId(tenant): str(name) for tenant, name in known["tenants"].items()}
        self._engine_routes, self._by_tenant = routes, tenants

    # -- lines --------------------------------------------------------------------------------------------

    def of_line(self, line: JournalLine) -> RouteSettings | None:
        """The settings that hold for the line's request; None where none are known."""
        name = self._name(line)
        return self._by_route.get(line.route_id) if name is None else self._by_name.get(name)

    def of(self, line: JournalLine, content: Arrived | None) -> RouteSettings | None:
        """The settings that the content was taken under, else those of the line."""
        named = self._by_name.get(content.policy) if content is not None else None
        return named or self.of_line(line)

    def terms(self, line: JournalLine, content: Arrived | None) -> Terms:
        """What else of the settings the line's record depends on."""
        settings = self.of(line, content)
        if settings is None:
            return Terms()
        terms = settings.terms(line.tenant)
        certain = (
            line.policy or line.route_id in self._by_route or (content and content.policy in self._by_name)
        )
        # The tenant's last settings may be those of another model: its prices aren't this one's.
        return terms if certain else replace(terms, prices=PriceLists())

    def unaudited(self, line: JournalLine, content: Arrived | None = None) -> bool:
        """Whether the line's tenant has no audit log there, so that it makes no record."""
        return line.policy == NO_AUDIT or (content is None and self._name(line) == NO_AUDIT)

    def expects_content(self, line: JournalLine | None) -> bool:
        """Whether content may come for this line."""
        if line is None or self.unaudited(line):
            return False
        settings = self.of_line(line)
        return settings is None or settings.config.content != "off" or bool(settings.config.headers)

    def _name(self, line: JournalLine) -> str | None:
        """Name of the settings by the line or its tenant; None where the route's settings hold, or none."""
        if line.policy:
            return line.policy
        if line.route_id in self._by_route or line.route_id not in self._engine_routes:
            return None
        return self._by_tenant.get(line.tenant)
