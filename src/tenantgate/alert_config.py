"""Receivers of alerts, as operators write them in tenants.yaml under ``gateway.alerts``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.fields import config_class, field

__all__ = ["Alerts", "Receiver"]

_URL: Final = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$"
_NAME: Final = r"^[a-z0-9][a-z0-9_-]*$"


@config_class
class Receiver:
    """One place where alerts go."""

    name: str = field(
        "Name of the receiver, for steps of budgets, metrics and its position in the spool.",
        match=_NAME,
        lua_match="^[a-z0-9][a-z0-9_-]*$",
        len_max=40,
    )
    type: str = field(
        "Kind of receiver: webhook, signed as Standard Webhooks has it; alertmanager, its API v2; or slack, an "
        "incoming webhook.",
        one_of=("webhook", "alertmanager", "slack"),
    )
    url: str = field(
        "Address, without credentials: of a webhook all of it, of an Alertmanager what comes before /api/v2/alerts, of "
        "Slack https://hooks.slack.com.",
        match=_URL,
        lua_match="^https?://[^%s]+$",
        address=True,
    )
    secret: str | None = field(
        "For a webhook the secret that signs (whsec_…, or any text); for Slack the rest of the address "
        "(services/T…/B…/…).",
        default=None,
        referenceable=True,
    )
    headers: dict[str, str] = field(
        "Headers of each request, such as Authorization. Values may be vault references.",
        default={},
        referenceable=True,
    )
    timeout_ms: int = field(
        "Time-out of one delivery; after it the delivery is tried again, for a day.",
        default=10_000,
        between=(100, 120_000),
        unit="ms",
    )
    ssl_verify: bool = field("Verify the certificate of url.", default=True)

    def problems(self) -> Iterator[tuple[str, str]]:
        """What must hold between the fields."""
        if (self.secret is None) != (self.type == "alertmanager"):
            yield (
                "secret",
                f"is required by type {self.type}"
                if self.secret is None
                else ("means nothing to an Alertmanager; give headers"),
            )


@config_class
class Alerts:
    """Who is told what happens to budgets. Alerts are events of the audit log and go out from its spool."""

    receivers: tuple[Receiver, ...] = field(
        "Receivers. Each gets the alerts of all tenants, but for those that a step sends to another one.",
        default=(),
        len_max=20,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Names tell receivers apart."""
        seen = set()
        for i, receiver in enumerate(self.receivers):
            if receiver.name in seen:
                yield f"receivers[{i}].name", f"two are called {receiver.name}"
            seen.add(receiver.name)
