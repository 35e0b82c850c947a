"""The rate limits' stage as an engine would run it, with Kong played in this process."""

from __future__ import annotations

from typing import Any

from tenantgate.kong import TenantPlugin
from tenantgate.kong.testing import FakeKong
from tenantgate.limits.config import LimitsConfig
from tenantgate.limits.manifest import LIMITS


class Stage(TenantPlugin[LimitsConfig], manifest=LIMITS):
    """One configured instance."""

    def ask(self, tenant: str | None = "acme", credential: str | None = "c-1", **answers: Any) -> FakeKong:
        """A request of a tenant with one of its credentials."""
        return FakeKong(consumer=tenant, credential=credential, answers=answers).run(self, "access")

    def passes(self, *who: str | None) -> bool:
        """Whether a request passes, counted or not."""
        return self.ask(*who).exit is None

    def passed(self, requests: int, *who: str | None) -> int:
        """How many of so many requests pass."""
        return sum(self.passes(*who) for _ in range(requests))
