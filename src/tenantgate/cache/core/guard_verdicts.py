"""What the verdicts of a route's guards mean for the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["REPLY_GUARD", "REQUEST_GUARD", "let_pass", "made_for_one"]

REQUEST_GUARD: Final = "tenant-guardrails"
REPLY_GUARD: Final = "tenant-response-guardrails"


def let_pass(verdict: Mapping[str, Any] | None) -> bool:
    """Whether the guard has let a request pass, and its reply needs nothing put back that was masked."""
    return verdict is not None and not verdict.get("recover")


def made_for_one(verdict: Mapping[str, Any] | None) -> bool:
    """Whether a reply isn't for everybody: masked, with something put back, or let pass by an exemption."""
    if verdict is None:
        return False
    rules = verdict.get("rules")
    exempted = isinstance(rules, Mapping) and any(
        isinstance(rule, Mapping) and "exempted" in rule for rule in rules.values()
    )
    return exempted or verdict.get("action") not in (None, "pass", "alert") or bool(verdict.get("recovered"))
