"""What an operator may set on the platform: where it is, how its limits are mirrored, and what an old copy means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.fields import SECONDS_MAX, config_class, field

__all__ = ["Platform"]

_URL: Final = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"
_LISTEN: Final = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:]+\]|localhost):[0-9]{1,5}$"
_PLAIN_HTTP: Final = ("http://127.", "http://localhost", "http://[::1]")


@config_class
class Platform:
    """The platform's API, whose limits and budgets `tenantgate platform serve` mirrors into the policies."""

    url: str | None = field(
        "Address of the Platform API, without /v1. Default: there is no platform.",
        default=None,
        match=_URL,
        address=True,
    )
    token: str | None = field("Bearer token for the Platform API.", default=None, referenceable=True)
    webhook_secret: str | None = field(
        "Secret of the platform's webhook (Standard Webhooks, whsec_…). Default: no webhook is taken.",
        default=None,
        referenceable=True,
    )
    poll_s: int = field("Time between two looks at the platform.", default=30, between=(1, 86_400), unit="s")
    max_age_s: int = field(
        "Age of the copy from which `on_stale` holds: time since the platform last confirmed it.",
        default=86_400,
        between=(1, SECONDS_MAX),
        unit="s",
    )
    on_stale: str = field(
        "What an older copy means for tenants that the platform has: keep, it stays in force; tighten, its limits and "
        "budgets count for `tighten_to` of their amounts; closed, their requests are refused with 503.",
        default="keep",
        one_of=("keep", "tighten", "closed"),
    )
    tighten_to: float = field(
        "With tighten, the part of each of the platform's limits and budgets that is left.",
        default=0.5,
        between=(0, 1),
    )
    path: str = field(
        "File on the mirror's node that keeps the last good copy.",
        default="/var/lib/tenantgate/platform/platform.json",
        match=r"^/[^\s]+$",
    )
    listen: str = field(
        "Address and port of the mirror's webhook, /metrics and /healthz.",
        default="127.0.0.1:8198",
        match=_LISTEN,
    )
    timeout_s: int = field(
        "Time-out of one request to the platform, from its first byte to the answer's last.",
        default=10,
        between=(1, 300),
        unit="s",
    )
    ssl_verify: bool = field("Verify the certificate of url.", default=True)

    def problems(self) -> Iterator[tuple[str, str]]:
        """A platform needs a token, and a token isn't sent in the open."""
        if self.url is None:
            return
        if self.token is None:
            yield "token", "required: the platform's bearer token"
        if self.url.startswith("http://") and not self.url.startswith(_PLAIN_HTTP):
            yield "url", "http sends the token in the open; take https"
        if int(self.listen.rpartition(":")[2]) > 65_535:
            yield "listen", "there is no such port"
