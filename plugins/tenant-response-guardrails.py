"""tenant-response-guardrails: masks or refuses replies, and recovers what the request's guard has masked.

It has a response phase, for which Kong holds back every reply of its routes until the reply's end: attach it only
where replies must be blocked or changed. Wiring only; see `tenantgate.guard.reply_service`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tenantgate import __version__
from tenantgate.guard.config import ReplyGuardConfig
from tenantgate.kong import Host, PhasePolicy, configure, kong_fields, phase

if TYPE_CHECKING:
    from tenantgate.guard.reply_service import ReplyGuard

version = __version__
priority = 785
Schema = kong_fields(ReplyGuardConfig)


class Plugin:
    """One configured instance."""

    config: ReplyGuardConfig
    config_error: Exception | None

    def __init__(self, config: dict[str, Any]) -> None:
        configure(self, ReplyGuardConfig, config)
        if self.config_error is None and not self.config.enforces:
            # Rules in alert never stop a reply, whatever fails.
            self.policy = PhasePolicy(reject=False, deadline_ms=self.config.deadline_ms)

    @cached_property
    def _guard(self) -> ReplyGuard:
        # Imported at the first event: Kong's query command only wants the schema, and quickly.
        from tenantgate.guard.reply_service import ReplyGuard  # noqa: PLC0415

        return ReplyGuard(self.config)

    @phase
    def response(self, host: Host) -> None:
        """Check the reply."""
        self._guard.response(host)


def warm_up() -> None:
    """Load what the first reply would wait for."""
    from tenantgate.guard.models import PARTS  # noqa: PLC0415

    PARTS.load("injection")
