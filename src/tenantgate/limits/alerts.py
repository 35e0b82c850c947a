"""Alerts of budgets: told once for each step, window and fleet, off the client's path."""

from __future__ import annotations

from tenantgate.limits.core.ledger import Room
from tenantgate.limits.core.rules import Rule, Window
from tenantgate.tenant import TenantId

__all__ = ["Alerts"]


class Alerts:
    """Tells what budgets have reached; thread-safe."""

    def seen(self, tenant: TenantId, rule: Rule, subject: str, room: Room, window: Window) -> None:
        """Take the state of a counter, after a reserve or a settle; returns at once and never raises.

        Args:
            tenant: whose budget it is.
            rule: the budget; a rule without steps is nothing to tell.
            subject: of the rule's `per`: a key's id, a model, an end user; empty for the tenant.
            room: what the ledger answered.
            window: the rule's.
        """
